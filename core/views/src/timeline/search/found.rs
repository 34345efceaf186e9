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

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::RoomNid,
        ruma::{RoomVersionId, room_id},
    };
    use colonnade_testkit_rooms::room_event;

    use super::*;

    fn find(nid: i64, room: &str) -> Find {
        let version = RoomVersionId::V11;
        let rules = version.rules().unwrap();
        let room_id = room.try_into().unwrap_or(room_id!("!none:localhost").to_owned());
        let room = Arc::new(Room { nid: RoomNid(1), room_id, version, rules });
        let event = room_event(nid, "m.room.message", Some(&nid.to_string()), json!({}));
        Find { shown: Shown::from(event), room, rank: 1.0 }
    }

    #[test]
    fn finds_are_grouped_in_the_order_of_the_first_of_each_group() {
        let finds = [find(3, "!b:localhost"), find(2, "!a:localhost"), find(1, "!b:localhost")];
        let ids: Vec<&str> = finds.iter().map(|f| f.shown.row.event.event_id().as_str()).collect();
        let by = ["room_id".to_owned(), "sender".to_owned()];
        let expected = json!({
            "room_id": {
                "!b:localhost": { "order": 0, "results": [ids[0], ids[2]] },
                "!a:localhost": { "order": 1, "results": [ids[1]] },
            },
            "sender": { "@alice:localhost": { "order": 0, "results": ids } },
        });
        assert_eq!(groups(&by, &finds), expected);
        assert_eq!(groups(&[], &finds), json!({}));
    }
}
