//! A user's account data that changed since a token.

use std::collections::{HashMap, HashSet};

use colonnade_model::nid::RoomNid;
use colonnade_storage::users::account_data::AccountData;
use colonnade_users::account_data::INVITE_PERMISSIONS;

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
                global.iter().any(|data| INVITE_PERMISSIONS.contains(&data.event_type.as_str()))
            }
            Self::Much { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn what_changed_is_sorted_by_what_it_is_about() {
        let data = |room: Option<i64>, kind: &str| AccountData {
            room: room.map(RoomNid),
            event_type: kind.to_owned(),
            body: RawValue::from_string("{}".to_owned()).unwrap(),
        };
        let direct = || data(None, "m.direct");
        let changed = ChangedData::little(vec![
            direct(),
            data(Some(1), "m.tag"),
            data(Some(2), "m.tag"),
            data(Some(1), "m.fully_read"),
        ]);
        assert_eq!(changed.rooms(), HashSet::from([RoomNid(1), RoomNid(2)]));
        assert!(!changed.may_have_invite_permission());
        let ChangedData::Little { global, rooms } = changed else { panic!("it is little") };
        let kinds = |some: &[AccountData]| -> Vec<String> {
            some.iter().map(|data| data.event_type.clone()).collect()
        };
        assert_eq!(kinds(&global), ["m.direct"]);
        assert_eq!(kinds(&rooms[&RoomNid(1)]), ["m.tag", "m.fully_read"]);
        for kind in INVITE_PERMISSIONS {
            let permission = ChangedData::little(vec![direct(), data(None, kind)]);
            assert!(permission.may_have_invite_permission());
        }
        assert!(ChangedData::Much { rooms: HashSet::new() }.may_have_invite_permission());
    }
}
