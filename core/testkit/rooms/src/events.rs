//! Events that nobody checked, for what only reads them.

use std::sync::Arc;

use colonnade_model::{
    nid::{EventNid, RoomNid, TypeNid, UserNid},
    ruma::RoomVersionId,
};
use colonnade_rooms::{RoomEvent, proposal::content};
use colonnade_rules::{event::Event, push::PushOutcome};
use serde_json::{Value, json};

/// Makes an event of alice in a room of version 11, `!room:localhost`.
pub fn event(kind: &str, state_key: Option<&str>, value: Value) -> Event {
    let mut json = json!({
        "type": kind, "sender": "@alice:localhost", "room_id": "!room:localhost", "content": value,
        "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": [],
        "hashes": { "sha256": "" }, "signatures": {},
    });
    if let Some(state_key) = state_key {
        json["state_key"] = state_key.into();
    }
    let rules = RoomVersionId::V11.rules().expect("the version is known");
    Event::parse(&content(json).expect("canonical").into(), &rules).expect("an event")
}

/// Makes what a room knows of such an event. Its place in the timeline and the stream is its number.
pub fn room_event(nid: i64, kind: &str, state_key: Option<&str>, value: Value) -> Arc<RoomEvent> {
    Arc::new(RoomEvent {
        nid: EventNid(nid),
        room: RoomNid(1),
        event: Arc::new(event(kind, state_key, value)),
        sender: UserNid(1),
        event_type: TypeNid(1),
        state_key_nid: None,
        flags: Default::default(),
        state_before: None,
        state_after: None,
        timeline_key: Some(nid),
        pos: Some(nid),
        thread: None,
        outcome: PushOutcome::Nothing,
    })
}
