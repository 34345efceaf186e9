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
