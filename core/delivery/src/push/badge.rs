//! How many unread notifications a user has in each room, for users who were sent something.

use std::collections::HashMap;

use colonnade_model::nid::{RoomNid, UserNid};
use parking_lot::Mutex;

/// Users whose counts are kept; of others they are counted when they are needed.
const USERS_MAX: usize = 50_000;

/// What is unread, by user and room; rooms without anything are left out.
#[derive(Default)]
pub(super) struct Badges(Mutex<HashMap<UserNid, HashMap<RoomNid, i64>>>);

impl Badges {
    /// Tells whether a user's counts are kept.
    pub(super) fn has(&self, user: UserNid) -> bool {
        self.0.lock().contains_key(&user)
    }

    /// Keeps what was counted, and returns what is unread in all rooms.
    pub(super) fn put(&self, user: UserNid, counted: Vec<(RoomNid, i64)>) -> i64 {
        let mut badges = self.0.lock();
        if badges.len() >= USERS_MAX && !badges.contains_key(&user) {
            badges.clear();
        }
        let of_user = badges.entry(user).or_default();
        for (room, unread) in counted {
            match unread {
                0 => of_user.remove(&room),
                unread => of_user.insert(room, unread),
            };
        }
        of_user.values().sum()
    }

    /// Forgets what is unread of a user: rooms were left.
    pub(super) fn forget(&self, user: UserNid) {
        self.0.lock().remove(&user);
    }

    /// Forgets what is unread of everybody.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}
