//! What was told on a connection, up to one of its positions.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Positions, Stream},
};
use colonnade_storage::rooms::members::Membership;

use super::request::RoomConfig;

/// Members of a room of whom it is remembered that they were told.
const MEMBERS_MAX: usize = 200;

/// What was told.
#[derive(Clone, Default)]
pub(crate) struct ConnectionState {
    /// Up to where; `None` before the first answer.
    pub(super) upto: Option<Positions>,
    /// The rooms that were told of.
    pub(super) rooms: HashMap<RoomNid, SentRoom>,
    /// Up to where account data was told, if it was.
    pub(super) account_data: Option<Position>,
    /// Up to where receipts were told, if they were.
    pub(super) receipts: Option<Position>,
    /// Up to where it was told who types, if it was.
    pub(super) typing: Option<Position>,
    /// Up to where it was told whose devices changed, if it was.
    pub(super) devices: Option<Positions>,
}

/// What was told of a room.
#[derive(Clone)]
pub(super) struct SentRoom {
    /// Up to where, if that is not as far as everything else.
    pub(super) upto: Option<Position>,
    /// What the client wanted of it.
    pub(super) config: Arc<RoomConfig>,
    /// What the user was in it.
    pub(super) membership: Membership,
    /// It was a direct chat.
    pub(super) is_dm: bool,
    /// How many events notified, and how many highlighted, if that was told.
    pub(super) unread: Option<(i64, i64)>,
    /// Whose member events the client has.
    pub(super) members: Arc<HashSet<UserNid>>,
}

impl ConnectionState {
    /// Up to where events were told; 0 before the first answer.
    pub(super) fn events(&self) -> Position {
        self.upto.map_or(0, |upto| upto.get(Stream::Events))
    }

    /// Up to where a room was told, if it was.
    pub(super) fn room_upto(&self, room: &SentRoom) -> Position {
        room.upto.unwrap_or_else(|| self.events())
    }
}

impl SentRoom {
    /// Notes that the client has as long a timeline as it had.
    pub(super) fn keep_timeline(&mut self, before: Option<&Self>) {
        let had = before.map_or(0, |before| before.config.timeline_limit);
        if had > self.config.timeline_limit {
            Arc::make_mut(&mut self.config).timeline_limit = had;
        }
    }

    /// Notes whose member events the client has, but not as they are now.
    pub(super) fn forget_members(&mut self, users: impl IntoIterator<Item = UserNid>) {
        let members = Arc::make_mut(&mut self.members);
        for user in users {
            members.remove(&user);
        }
    }

    /// Notes whose member events the client has now.
    pub(super) fn add_members(&mut self, users: impl IntoIterator<Item = UserNid>) {
        let mut users = users.into_iter().peekable();
        if users.peek().is_none() {
            return;
        }
        let members = Arc::make_mut(&mut self.members);
        // Past the bound, some are told again.
        if members.len() > MEMBERS_MAX {
            members.clear();
        }
        members.extend(users);
    }
}
