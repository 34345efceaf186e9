//! What an event says it relates to (`m.relates_to`).

use colonnade_model::ruma::{EventId, OwnedEventId};
use serde::Deserialize;
use serde_json::Value;

use super::Event;

/// The relation an event claims.
pub struct RelatesTo {
    /// The relation type (`rel_type`).
    pub rel_type: String,
    /// The event it points at.
    pub event_id: OwnedEventId,
    /// The key of an annotation.
    pub key: Option<String>,
}

impl RelatesTo {
    /// Reads it from the content; anything malformed is no relation.
    pub fn of(event: &Event) -> Option<Self> {
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "m.relates_to")]
            relates_to: Value,
        }
        let relates_to = event.content_as::<Content>().ok()?.relates_to;
        Self::read(&relates_to)
    }

    /// Reads the value of `m.relates_to`.
    pub fn read(relates_to: &Value) -> Option<Self> {
        let rel_type = relates_to.get("rel_type")?.as_str()?.to_owned();
        let event_id = EventId::parse(relates_to.get("event_id")?.as_str()?).ok()?;
        if rel_type.contains('\0') || event_id.as_str().contains('\0') {
            return None;
        }
        let key = relates_to.get("key").and_then(Value::as_str).map(|key| key.replace('\0', ""));
        Some(Self { rel_type, event_id, key })
    }
}
