//! What a room shows of itself, kept up to date from its state events.

use colonnade_rules::event::Event;
use colonnade_storage::rooms::summaries::Summary;
use serde_json::Value;

/// What a room without any state shows.
pub(crate) fn empty() -> Summary {
    Summary {
        join_rule: "invite".to_owned(),
        history_visibility: "shared".to_owned(),
        ..Summary::default()
    }
}

/// Tells whether state of this type (with an empty state key) is shown.
pub(crate) fn shows(event_type: &str) -> bool {
    matches!(
        event_type,
        "m.room.name"
            | "m.room.topic"
            | "m.room.avatar"
            | "m.room.canonical_alias"
            | "m.room.create"
            | "m.room.join_rules"
            | "m.room.history_visibility"
            | "m.room.guest_access"
            | "m.room.encryption"
            | "m.room.tombstone"
    )
}

/// Takes note of the event that now holds the key of this type; `None` if nothing does.
pub(crate) fn apply(summary: &mut Summary, event_type: &str, event: Option<&Event>) {
    let content: Value = event.and_then(|event| event.content_as().ok()).unwrap_or(Value::Null);
    // Anybody may send any content; PostgreSQL cannot store U+0000.
    let text = |key: &str| {
        let found = content.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(|text| text.replace('\0', ""))
    };
    match event_type {
        "m.room.name" => summary.name = text("name"),
        "m.room.topic" => summary.topic = text("topic"),
        "m.room.avatar" => summary.avatar_url = text("url"),
        "m.room.canonical_alias" => summary.canonical_alias = text("alias"),
        "m.room.create" => summary.room_type = text("type"),
        "m.room.join_rules" => {
            summary.join_rule = text("join_rule").unwrap_or_else(|| "invite".to_owned());
        }
        "m.room.history_visibility" => {
            let given = text("history_visibility");
            summary.history_visibility = given.unwrap_or_else(|| "shared".to_owned());
        }
        "m.room.guest_access" => {
            summary.guest_access = text("guest_access").as_deref() == Some("can_join");
        }
        "m.room.encryption" => summary.encryption = text("algorithm"),
        "m.room.tombstone" => summary.successor = text("replacement_room"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tests::event;

    fn after(kind: &str, content: Value) -> Summary {
        let mut summary = empty();
        apply(&mut summary, kind, Some(&event(kind, Some(""), content)));
        summary
    }

    #[test]
    fn each_part_comes_from_its_event() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(after("m.room.name", json!({ "name": "Hall" })).name, text("Hall"));
        assert_eq!(after("m.room.topic", json!({ "topic": "T" })).topic, text("T"));
        assert_eq!(
            after("m.room.avatar", json!({ "url": "mxc://a/b" })).avatar_url,
            text("mxc://a/b")
        );
        let alias = after("m.room.canonical_alias", json!({ "alias": "#a:b" }));
        assert_eq!(alias.canonical_alias, text("#a:b"));
        assert_eq!(after("m.room.create", json!({ "type": "m.space" })).room_type, text("m.space"));
        assert_eq!(after("m.room.join_rules", json!({ "join_rule": "knock" })).join_rule, "knock");
        let history = after("m.room.history_visibility", json!({ "history_visibility": "joined" }));
        assert_eq!(history.history_visibility, "joined");
        assert!(after("m.room.guest_access", json!({ "guest_access": "can_join" })).guest_access);
        let secret = after("m.room.encryption", json!({ "algorithm": "m.megolm.v1.aes-sha2" }));
        assert_eq!(secret.encryption, text("m.megolm.v1.aes-sha2"));
        let gone = after("m.room.tombstone", json!({ "replacement_room": "!new:b" }));
        assert_eq!(gone.successor, text("!new:b"));
    }

    #[test]
    fn content_that_is_no_text_says_nothing() {
        for kind in ["m.room.name", "m.room.join_rules", "m.room.history_visibility"] {
            for value in [json!(5), json!(""), json!(null), json!(["Hall"])] {
                let key = kind.strip_prefix("m.room.").unwrap().replace("rules", "rule");
                assert_eq!(after(kind, json!({ (key): value })), empty(), "{kind} {value}");
            }
        }
        let denied = after("m.room.guest_access", json!({ "guest_access": "forbidden" }));
        assert_eq!(denied, empty());
    }

    #[test]
    fn a_text_loses_what_no_database_stores() {
        let named = after("m.room.name", json!({ "name": "a\u{0}b" }));
        assert_eq!(named.name.as_deref(), Some("ab"));
    }

    #[test]
    fn what_nobody_holds_any_more_is_as_at_the_beginning() {
        let mut summary = after("m.room.join_rules", json!({ "join_rule": "public" }));
        apply(&mut summary, "m.room.join_rules", None);
        assert_eq!(summary, empty());
        assert_eq!((&*empty().join_rule, &*empty().history_visibility), ("invite", "shared"));
    }

    #[test]
    fn state_is_looked_at_just_where_it_shows() {
        let content = json!({
            "name": "x", "topic": "x", "url": "x", "alias": "x", "type": "x", "join_rule": "x",
            "history_visibility": "x", "guest_access": "can_join", "algorithm": "x",
            "replacement_room": "x",
        });
        for kind in [
            "m.room.name",
            "m.room.topic",
            "m.room.avatar",
            "m.room.canonical_alias",
            "m.room.create",
            "m.room.join_rules",
            "m.room.history_visibility",
            "m.room.guest_access",
            "m.room.encryption",
            "m.room.tombstone",
            "m.room.power_levels",
            "m.room.pinned_events",
            "m.room.member",
            "m.space.child",
        ] {
            let changes = after(kind, content.clone()) != empty();
            assert_eq!(shows(kind), changes, "{kind}");
        }
    }
}
