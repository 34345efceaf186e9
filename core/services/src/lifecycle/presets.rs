//! What new rooms are made of: the presets and the default power levels.

use colonnade_model::ruma::{OwnedUserId, room_version_rules::RoomVersionRules};
use serde_json::{Value, json};

/// What kind of room it shall be.
///
/// Source: Matrix v1.19, client-server, `POST /createRoom`, "preset".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// By invitation.
    Private,
    /// By invitation; whoever is invited at the start may do what the creator may.
    TrustedPrivate,
    /// Anybody may join.
    Public,
}

impl Preset {
    /// Returns the state events of the preset: type and content, each with an empty state key.
    pub(super) fn state(self) -> [(&'static str, Value); 3] {
        let (join_rule, guests) = match self {
            Self::Private | Self::TrustedPrivate => ("invite", "can_join"),
            Self::Public => ("public", "forbidden"),
        };
        [
            ("m.room.join_rules", json!({ "join_rule": join_rule })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            ("m.room.guest_access", json!({ "guest_access": guests })),
        ]
    }
}

/// Returns the power levels a room starts with, before its creator's overrides.
///
/// Where creators stand above all levels (room version 12) they must not be among the users, and
/// only they may upgrade the room.
pub(super) fn power_levels(
    preset: Preset,
    rules: &RoomVersionRules,
    creator: &OwnedUserId,
    invited: &[OwnedUserId],
) -> Value {
    let privileged = rules.authorization.explicitly_privilege_room_creators;
    let mut users = serde_json::Map::new();
    if !privileged {
        users.insert(creator.to_string(), 100.into());
        if preset == Preset::TrustedPrivate {
            users.extend(invited.iter().map(|user| (user.to_string(), 100.into())));
        }
    }
    json!({
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
            "m.room.tombstone": if privileged { 150 } else { 100 },
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": if preset == Preset::Public { 50 } else { 0 },
    })
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::{RoomVersionId, user_id};

    use super::*;

    #[test]
    fn a_preset_says_who_comes_in_and_whether_guests_do() {
        for (preset, join_rule, guests) in [
            (Preset::Private, "invite", "can_join"),
            (Preset::TrustedPrivate, "invite", "can_join"),
            (Preset::Public, "public", "forbidden"),
        ] {
            let [join, history, access] = preset.state();
            assert_eq!(join, ("m.room.join_rules", json!({ "join_rule": join_rule })));
            assert_eq!(access, ("m.room.guest_access", json!({ "guest_access": guests })));
            assert_eq!(history.1, json!({ "history_visibility": "shared" }), "{preset:?}");
        }
    }

    #[test]
    fn who_is_trusted_at_the_start_has_the_level_of_the_creator() {
        let (creator, invited) = (user_id!("@a:b").to_owned(), [user_id!("@c:b").to_owned()]);
        let levels = |preset, version: RoomVersionId| {
            power_levels(preset, &version.rules().unwrap(), &creator, &invited)
        };
        for (preset, users) in [
            (Preset::Private, json!({ "@a:b": 100 })),
            (Preset::Public, json!({ "@a:b": 100 })),
            (Preset::TrustedPrivate, json!({ "@a:b": 100, "@c:b": 100 })),
        ] {
            let before = levels(preset, RoomVersionId::V11);
            assert_eq!(before["users"], users, "{preset:?}");
            assert_eq!(before["events"]["m.room.tombstone"], 100);
            // Creators stand above all levels there, and nobody else may replace the room.
            let since = levels(preset, RoomVersionId::V12);
            assert_eq!(since["users"], json!({}), "{preset:?}");
            assert_eq!(since["events"]["m.room.tombstone"], 150);
            let invite = if preset == Preset::Public { 50 } else { 0 };
            assert_eq!((&before["invite"], &since["invite"]), (&json!(invite), &json!(invite)));
        }
    }
}
