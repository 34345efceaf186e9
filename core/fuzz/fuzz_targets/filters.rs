//! Any bytes as a filter, inline or stored: refused, or the same after a round through JSON; and
//! matched against events, where what is excluded by name is never shown.

#![no_main]

use colonnade_model::ruma::{
    OwnedEventId, RoomVersionId, api::client::filter::FilterDefinition, user_id,
};
use colonnade_rules::event::Event;
use colonnade_views::sync::filter::{lazy_loads, repeats_members, wants, wants_plain};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|input: (&str, &str, &str)| {
    let (filter, event_type, url) = input;
    let Ok(definition) = serde_json::from_str::<FilterDefinition>(filter) else { return };
    let written = serde_json::to_string(&definition).expect("a filter is JSON");
    let again: FilterDefinition = serde_json::from_str(&written).expect("our JSON is a filter");
    assert_eq!(serde_json::to_string(&again).expect("a filter is JSON"), written);

    let sender = user_id!("@alice:localhost");
    let _ = wants_plain(&definition.presence, event_type, Some(sender));
    let _ = wants_plain(&definition.account_data, event_type, None);
    let rules = RoomVersionId::V10.rules().expect("a known version");
    let id = OwnedEventId::try_from("$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let stored = json!({
        "type": event_type, "sender": sender, "room_id": "!r:localhost", "depth": 1,
        "origin_server_ts": 1, "prev_events": [], "auth_events": [], "hashes": {},
        "signatures": {}, "content": { "url": url },
    });
    let event =
        Event::from_stored(stored.to_string().into_bytes(), id.expect("an id"), &rules, false);
    let Ok(event) = event else { return };
    for part in [&definition.room.timeline, &definition.room.state] {
        let _ = (lazy_loads(part), repeats_members(part));
        let excluded = part.not_types.iter().any(|pattern| pattern == event_type)
            || part.not_senders.iter().any(|user| user == sender);
        assert!(!(excluded && wants(part, &event)));
    }
});
