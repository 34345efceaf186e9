//! The answer to a search.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::ruma::OwnedRoomId;
use colonnade_rooms::Room;
use serde::Serialize;
use serde_json::{Map, Value, json, value::RawValue};

use crate::timeline::Shown;

/// An event that was found.
pub(super) struct Find {
    pub(super) shown: Shown,
    pub(super) room: Arc<Room>,
    pub(super) rank: f64,
}

/// The `room_events` of an answer.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// Events that match, among those that were looked at.
    pub count: usize,
    /// The words.
    pub highlights: Vec<String>,
    /// The events of this page.
    pub results: Vec<Value>,
    /// The same by room and by sender, as far as that was asked for.
    pub groups: Value,
    /// The states of their rooms, if they were asked for.
    pub state: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>>,
    /// The token of the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_batch: Option<String>,
}

/// Lists the finds by room or sender, groups in the order of their first find.
pub(super) fn groups(by: &[String], finds: &[Find]) -> Value {
    let mut groups = Map::new();
    for key in by {
        let mut order: HashMap<String, usize> = HashMap::new();
        let mut found: Vec<(String, Vec<Value>)> = Vec::new();
        for find in finds {
            let event = &find.shown.row.event;
            let value = match key.as_str() {
                "room_id" => find.room.room_id.to_string(),
                "sender" => event.sender().to_string(),
                _ => continue,
            };
            let at = *order.entry(value.clone()).or_insert(found.len());
            if at == found.len() {
                found.push((value, Vec::new()));
            }
            found[at].1.push(json!(event.event_id()));
        }
        let rendered: Map<String, Value> = found
            .into_iter()
            .enumerate()
            .map(|(at, (value, results))| (value, json!({ "order": at, "results": results })))
            .collect();
        groups.insert(key.clone(), rendered.into());
    }
    groups.into()
}
