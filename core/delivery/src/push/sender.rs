//! What telling push gateways stands on.

use std::sync::Arc;

use colonnade_federation::transport::{Transport, WebClient};
use colonnade_model::{ruma::UserId, slot::slot_of, stream::Positions};
use colonnade_replication::{
    Latest,
    slots::{Duty, Right},
};
use colonnade_rooms::{Context, Rooms};
use colonnade_storage::ownership::pools::PUSHER;
use colonnade_users::push::Push;
use colonnade_views::timeline::Timeline;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{badge::Badges, changes::PusherChanges, figures::PushFigures, index::Index};

/// Parts that users are divided into: each is one process's, and has one position.
pub(super) const SHARDS: i64 = 32;
/// Requests to gateways at a time: enough that one slow gateway does not hold up all others, few enough that a message
/// to thousands is no storm.
const REQUESTS_MAX: usize = 64;

/// Where it is found what is told, and how.
pub struct PushSources {
    /// What everything stands on.
    pub context: Arc<Context>,
    /// Rooms and their events.
    pub rooms: Rooms,
    /// The way out.
    pub transport: Transport,
    /// How far the streams have come.
    pub positions: Arc<Latest<Positions>>,
    /// Push rules.
    pub push: Arc<Push>,
    /// Who may see what.
    pub timeline: Arc<Timeline>,
    /// Whose pushers, rules or rooms may have changed.
    pub changes: Arc<PusherChanges>,
}

/// Tells push gateways what notifies users.
pub struct PushSender {
    pub(super) context: Arc<Context>,
    pub(super) rooms: Rooms,
    pub(super) web: WebClient,
    pub(super) positions: Arc<Latest<Positions>>,
    pub(super) push: Arc<Push>,
    pub(super) timeline: Arc<Timeline>,
    pub(super) changes: Arc<PusherChanges>,
    pub(super) index: Mutex<Index>,
    pub(super) badges: Badges,
    pub(super) turns: Semaphore,
    /// How it goes.
    pub figures: PushFigures,
}

impl PushSender {
    pub(super) fn new(sources: PushSources) -> Self {
        let PushSources { context, rooms, transport, positions, push, timeline, changes } = sources;
        Self {
            context,
            rooms,
            web: transport.web(),
            positions,
            push,
            timeline,
            changes,
            index: Mutex::default(),
            badges: Badges::default(),
            turns: Semaphore::new(REQUESTS_MAX),
            figures: PushFigures::default(),
        }
    }

    /// Returns by what right this process tells the pushers of a shard, if it does.
    pub(super) fn right(&self, shard: i64) -> Option<Right> {
        self.context.slots.right(Duty::of(PUSHER, &format!("push-{shard}")))
    }
}

/// Returns the shard of a user.
pub(super) fn shard_of(user_id: &UserId) -> i64 {
    i64::from(slot_of(user_id.as_str())) % SHARDS
}
