//! What a client asks for, whichever way it wrote it.

use std::collections::BTreeMap;

use colonnade_model::ruma::{OwnedRoomId, presence::PresenceState};

use super::required_state::RequiredState;

/// In which words an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialect {
    /// Those of the unstable path, which clients of today speak.
    #[default]
    Unstable,
    /// Those of the proposal as it was accepted.
    V4,
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct SlidingRequest {
    /// In which words it was written.
    pub dialect: Dialect,
    /// What the client calls the connection.
    pub connection: String,
    /// Where the client stands on it; `None` begins it anew.
    pub pos: Option<String>,
    /// Repeated in the answer.
    pub txn_id: Option<String>,
    /// How long to wait for something to happen, in milliseconds.
    pub timeout_ms: u64,
    /// What the client says of its user by syncing.
    pub set_presence: PresenceState,
    /// Windows on the list of rooms, by their names.
    pub lists: BTreeMap<String, List>,
    /// Rooms that are wanted wherever they stand in the list.
    pub subscriptions: BTreeMap<OwnedRoomId, RoomConfig>,
    /// What is wanted beside rooms.
    pub extensions: Extensions,
}

/// A window on the list of rooms.
#[derive(Debug, Clone, Default)]
pub struct List {
    /// The first and the last place of each stretch, counted from 0; `None` is the whole list.
    pub ranges: Option<Vec<(usize, usize)>>,
    /// What is wanted of the rooms.
    pub config: RoomConfig,
    /// Which rooms are counted at all.
    pub filters: RoomFilters,
}

/// What is wanted of a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomConfig {
    /// Events of the timeline at most.
    pub timeline_limit: usize,
    /// Which state.
    pub required_state: RequiredState,
}

impl RoomConfig {
    /// Tells whether another one may want what this one does not.
    pub(super) fn wants_less_than(&self, other: &Self) -> bool {
        self.timeline_limit < other.timeline_limit || self.required_state != other.required_state
    }

    /// Asks for what another one asks for, too.
    pub(super) fn join(&mut self, other: &Self) {
        self.timeline_limit = self.timeline_limit.max(other.timeline_limit);
        self.required_state.join(&other.required_state);
    }
}

/// Which rooms a list has: those that pass all of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomFilters {
    /// By `m.direct`.
    pub is_dm: Option<bool>,
    /// Children of one of these spaces.
    pub spaces: Option<Vec<OwnedRoomId>>,
    /// By whether they are encrypted.
    pub is_encrypted: Option<bool>,
    /// By whether they are invitations.
    pub is_invite: Option<bool>,
    /// Of one of these types; `None` inside is a room without one.
    pub room_types: Option<Vec<Option<String>>>,
    /// Of none of these types.
    pub not_room_types: Option<Vec<Option<String>>>,
    /// With one of these tags.
    pub tags: Option<Vec<String>>,
    /// With none of these tags.
    pub not_tags: Option<Vec<String>>,
}

/// What is wanted beside rooms; `None` is not wanted.
#[derive(Debug, Clone, Default)]
pub struct Extensions {
    /// Messages to the device.
    pub to_device: Option<ToDeviceExtension>,
    /// Whose devices changed, and how many keys are left.
    pub e2ee: bool,
    /// What the user keeps here: of all rooms together, and of these.
    pub account_data: Option<ExtensionRooms>,
    /// Who read what in these rooms.
    pub receipts: Option<ExtensionRooms>,
    /// Who types in these rooms.
    pub typing: Option<ExtensionRooms>,
}

/// Messages to the device.
#[derive(Debug, Clone, Default)]
pub struct ToDeviceExtension {
    /// How many at most.
    pub limit: Option<usize>,
    /// Up to where the client has them; it will not ask for them again.
    pub since: Option<String>,
}

/// Of which of the rooms of a request an extension is wanted.
#[derive(Debug, Clone, Default)]
pub struct ExtensionRooms {
    /// Those in the windows of these lists; of all if it is not said.
    pub lists: Option<Vec<String>>,
    /// These of the subscriptions, `*` for all of them; all if it is not said.
    pub rooms: Option<Vec<String>>,
}

impl ExtensionRooms {
    /// Tells whether a room is among them that is in the windows of some lists, or is subscribed to.
    pub(super) fn has(&self, room: &str, lists: &[String], is_subscribed: bool) -> bool {
        let listed = |names: &Vec<String>| lists.iter().any(|list| names.contains(list));
        let named = |names: &Vec<String>| names.iter().any(|name| name == "*" || name == room);
        self.lists.as_ref().map_or(!lists.is_empty(), listed)
            || is_subscribed && self.rooms.as_ref().is_none_or(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_is_wanted_of_all_rooms_unless_some_are_named() {
        let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let (all, none) =
            (ExtensionRooms::default(), ExtensionRooms { lists: names(&[]), rooms: names(&[]) });
        let one = ExtensionRooms { lists: names(&["a"]), rooms: names(&["!r"]) };
        let star = ExtensionRooms { lists: names(&[]), rooms: names(&["*"]) };
        let (a, b) = (["a".to_owned()], ["b".to_owned()]);
        for (rooms, of_a, of_b, of_r, of_s) in [
            (all, true, true, true, true),
            (none, false, false, false, false),
            (one, true, false, true, false),
            (star, false, false, true, true),
        ] {
            assert_eq!(rooms.has("!x", &a, false), of_a, "{rooms:?}");
            assert_eq!(rooms.has("!x", &b, false), of_b, "{rooms:?}");
            assert_eq!(rooms.has("!r", &[], true), of_r, "{rooms:?}");
            assert_eq!(rooms.has("!s", &[], true), of_s, "{rooms:?}");
        }
    }
}
