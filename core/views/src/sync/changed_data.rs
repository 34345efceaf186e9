//! A user's account data that changed since a token.

use std::collections::HashMap;

use colonnade_model::nid::RoomNid;
use colonnade_storage::users::account_data::AccountData;

/// A user's account data that changed, by what it is about.
#[derive(Default)]
pub(super) struct ChangedData {
    pub(super) global: Vec<AccountData>,
    pub(super) rooms: HashMap<RoomNid, Vec<AccountData>>,
}

impl ChangedData {
    pub(super) fn of(changes: Vec<AccountData>) -> Self {
        let mut sorted = Self::default();
        for data in changes {
            match data.room {
                Some(room) => sorted.rooms.entry(room).or_default().push(data),
                None => sorted.global.push(data),
            }
        }
        sorted
    }

    pub(super) fn of_room(&self, room: RoomNid) -> &[AccountData] {
        self.rooms.get(&room).map_or(&[], Vec::as_slice)
    }
}
