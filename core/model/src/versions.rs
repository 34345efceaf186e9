//! The table of room versions this server creates and joins. Rules are passed on as values
//! (`RoomVersionRules`), never looked up again further in, so that other rule sets can follow.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// The version of new rooms unless the configuration says otherwise.
pub const DEFAULT: RoomVersionId = RoomVersionId::V12;

/// Every version served, oldest first: all that the specification has, and it calls all of them stable (Matrix
/// v1.19, rooms, §Complete list of room versions).
pub const SUPPORTED: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// Returns the rules of a supported version, `None` of any other.
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    if SUPPORTED.contains(version) { version.rules() } else { None }
}
