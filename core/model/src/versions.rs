//! The table of room versions this server creates and joins. Rules are passed on as values
//! (`RoomVersionRules`), never looked up again further in, so that other rule sets can follow.

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

/// The version of new rooms unless the configuration says otherwise.
pub const DEFAULT: RoomVersionId = RoomVersionId::V12;

/// Every version served, oldest first. 1 to 5 need state resolution v1 or lenient JSON, which the
/// library underneath does not have.
pub const SUPPORTED: [RoomVersionId; 7] = [
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
