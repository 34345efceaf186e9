//! A user's account data that changed since a token.

use std::collections::{HashMap, HashSet};

use colonnade_model::nid::RoomNid;
use colonnade_storage::users::account_data::AccountData;
use colonnade_users::account_data::INVITE_PERMISSION;

/// A user's account data that changed, by what it is about.
pub(super) enum ChangedData {
    /// All of it, since it is little.
    Little { global: Vec<AccountData>, rooms: HashMap<RoomNid, Vec<AccountData>> },
    /// Of much only which rooms it is about: it is read when it is told.
    Much { rooms: HashSet<RoomNid> },
}

impl ChangedData {
    pub(super) fn little(changes: Vec<AccountData>) -> Self {
        let (mut global, mut rooms) = (Vec::new(), HashMap::<_, Vec<_>>::new());
        for data in changes {
            match data.room {
                Some(room) => rooms.entry(room).or_default().push(data),
                None => global.push(data),
            }
        }
        Self::Little { global, rooms }
    }

    /// Returns the rooms that it is about.
    pub(super) fn rooms(&self) -> HashSet<RoomNid> {
        match self {
            Self::Little { rooms, .. } => rooms.keys().copied().collect(),
            Self::Much { rooms } => rooms.clone(),
        }
    }

    /// Tells whether what the user says about being invited changed, or may have.
    pub(super) fn may_have_invite_permission(&self) -> bool {
        match self {
            Self::Little { global, .. } => {
                global.iter().any(|data| data.event_type == INVITE_PERMISSION)
            }
            Self::Much { .. } => true,
        }
    }
}
