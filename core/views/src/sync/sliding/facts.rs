//! What rooms are filtered by, in memory: what their state says of them, and what their user does.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};
use colonnade_storage::rooms::summaries::Summary;
use quick_cache::sync::Cache;

/// Users of whom is known what they say of rooms, some kilobytes each.
const USERS_MAX: usize = 10_000;
/// Rooms of which is known what they say of themselves, about 500 bytes each.
const ROOMS_MAX: usize = 20_000;

/// What is known.
pub(crate) struct Facts {
    pub(super) users: Cache<UserNid, Arc<UserFacts>>,
    pub(super) rooms: Cache<RoomNid, (Position, Arc<Summary>)>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { users: Cache::new(USERS_MAX), rooms: Cache::new(ROOMS_MAX) }
    }
}

/// What a user says of rooms.
pub(super) struct UserFacts {
    /// Where the user's account data stood.
    pub(super) at: Position,
    /// The rooms that `m.direct` names.
    pub(super) direct: HashSet<String>,
    pub(super) tags: HashMap<RoomNid, HashSet<String>>,
}

impl UserFacts {
    /// Tells whether a room is a direct chat.
    pub(super) fn is_direct(&self, room_id: &str) -> bool {
        self.direct.contains(room_id)
    }

    /// Tells whether a room has one of some tags.
    pub(super) fn has_tag(&self, room: RoomNid, tags: &[String]) -> bool {
        self.tags.get(&room).is_some_and(|own| tags.iter().any(|tag| own.contains(tag)))
    }
}
