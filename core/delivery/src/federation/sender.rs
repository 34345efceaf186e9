//! What sending to other servers stands on, and the destinations of this process.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use colonnade_federation::transport::Transport;
use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedServerName, ServerName},
    stream::Positions,
};
use colonnade_replication::{
    Latest,
    slots::{Duty, Right},
};
use colonnade_rooms::{Context, Result, Rooms};
use colonnade_storage::{federation::positions::Sendable, ownership::pools::FEDERATION_SENDER};
use colonnade_users::{encryption::Encryption, presence::Presence};
use colonnade_views::typing::Typing;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{destination::Destination, moves::Moves};

/// Destinations that read what they lack from the database, at a time.
const CATCHING_UP_MAX: usize = 16;

/// What is told that is no event, and where it is found.
pub struct EduSources {
    /// Who types here.
    pub typing: Arc<Typing>,
    /// Devices and their keys.
    pub encryption: Arc<Encryption>,
    /// Who is here.
    pub presence: Arc<Presence>,
    /// Who came into rooms.
    pub moves: Arc<Moves>,
}

/// Sends to other servers what happens here.
pub struct FederationSender {
    pub(super) context: Arc<Context>,
    pub(super) rooms: Rooms,
    pub(super) transport: Transport,
    /// How far the streams have come.
    pub(super) positions: Arc<Latest<Positions>>,
    pub(super) destinations: Mutex<HashMap<OwnedServerName, Arc<Destination>>>,
    /// Up to where the streams were handed to the destinations that keep up.
    pub(super) fanned_out: Mutex<Positions>,
    /// Who types here.
    pub(super) typing: Arc<Typing>,
    /// Devices here and their keys.
    pub(super) encryption: Arc<Encryption>,
    /// Who is here.
    pub(super) presence: Arc<Presence>,
    /// Who came into rooms.
    pub(super) moves: Arc<Moves>,
    pub(super) catching_up: Semaphore,
}

impl FederationSender {
    pub(super) fn new(
        context: Arc<Context>,
        rooms: Rooms,
        transport: Transport,
        positions: Arc<Latest<Positions>>,
        sources: EduSources,
    ) -> Self {
        let EduSources { typing, encryption, presence, moves } = sources;
        Self {
            context,
            rooms,
            transport,
            positions,
            destinations: Mutex::default(),
            fanned_out: Mutex::default(),
            typing,
            encryption,
            presence,
            moves,
            catching_up: Semaphore::new(CATCHING_UP_MAX),
        }
    }

    /// Returns by what right this process sends to a destination, if it does.
    pub(super) fn right(&self, server: &ServerName) -> Option<Right> {
        self.context.slots.right(Duty::of(FEDERATION_SENDER, server.as_str()))
    }

    /// Leaves of some events those of users of this server, and those that others handed over.
    pub(super) async fn told_by_us(&self, events: Vec<Sendable>) -> Result<Vec<Sendable>> {
        let handed: Vec<Sendable> =
            events.iter().filter(|event| event.is_handed_over).copied().collect();
        let mut ours = self.local(events, |event| event.sender).await?;
        ours.extend(handed);
        ours.sort_by_key(|event| event.pos);
        Ok(ours)
    }

    /// Leaves of some rows those that are of users of this server.
    pub(super) async fn local<T>(
        &self,
        rows: Vec<T>,
        user_of: impl Fn(&T) -> UserNid,
    ) -> Result<Vec<T>> {
        let users: BTreeSet<UserNid> = rows.iter().map(&user_of).collect();
        let users: Vec<UserNid> = users.into_iter().collect();
        let names = self.context.interned.user_ids(&users).await?;
        let ours: HashSet<UserNid> = users
            .into_iter()
            .zip(names)
            .filter(|(_, name)| name.server_name() == self.context.server_name)
            .map(|(user, _)| user)
            .collect();
        Ok(rows.into_iter().filter(|row| ours.contains(&user_of(row))).collect())
    }
}
