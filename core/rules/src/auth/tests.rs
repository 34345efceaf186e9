//! Events that are allowed and events that are not, in old rooms and new.

use colonnade_model::ruma::RoomVersionId;
use serde_json::json;

use super::{check_by_auth_events, check_by_state, state_keys_to_check};
use crate::sample::{Room, StateIds, key, user};

mod members;

fn allowed(room: &Room, state: &StateIds, event: &crate::event::Event) -> bool {
    let rules = &room.rules.authorization;
    check_by_state(event, rules, |kind, key| room.find(state, kind, key)).is_ok()
}

#[test]
fn the_first_events_of_a_room_are_allowed() {
    for version in colonnade_model::versions::SUPPORTED {
        let (room, state) = Room::new(version);
        let rules = &room.rules.authorization;
        let mut before = StateIds::new();
        for name in ["m.room.create", "m.room.member", "m.room.power_levels", "m.room.join_rules"] {
            let state_key = if name == "m.room.member" { "@alice:one.example" } else { "" };
            let id = state[&key(name, state_key)].clone();
            let event = room.events[&id].clone();
            check_by_auth_events(&event, rules, |id| room.events.get(id).cloned()).unwrap();
            check_by_state(&event, rules, |kind, key| room.find(&before, kind, key)).unwrap();
            before.insert(key(name, state_key), id);
        }
    }
}

#[test]
fn strangers_and_the_weak_are_refused() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let (mut room, mut state) = Room::new(version);
        let stranger = room.make(&state, 5, "carol", "m.room.message", None, json!({}));
        assert!(!allowed(&room, &state, &stranger));
        let joining = room.join(&mut state, 6, "carol");
        let rules = &room.rules.authorization;
        let mut before = state.clone();
        before.remove(&key("m.room.member", "@carol:one.example"));
        check_by_state(&joining, rules, |kind, key| room.find(&before, kind, key)).unwrap();
        let talking = room.make(&state, 7, "carol", "m.room.message", None, json!({}));
        assert!(allowed(&room, &state, &talking));
        let naming = room.make(&state, 8, "carol", "m.room.name", Some(""), json!({ "name": "x" }));
        assert!(!allowed(&room, &state, &naming));
        room.join(&mut state, 9, "bob");
        let naming = room.make(&state, 10, "bob", "m.room.name", Some(""), json!({ "name": "x" }));
        assert!(allowed(&room, &state, &naming));
        let banned = json!({ "membership": "ban" });
        let ban = |by: &str, whom: &str, room: &mut Room| {
            let whom = user(whom);
            room.make(&state, 11, by, "m.room.member", Some(whom.as_str()), banned.clone())
        };
        let event = ban("bob", "carol", &mut room);
        assert!(allowed(&room, &state, &event));
        let event = ban("bob", "alice", &mut room);
        assert!(!allowed(&room, &state, &event));
    }
}

#[test]
fn a_rejected_auth_event_rejects() {
    let (mut room, state) = Room::new(RoomVersionId::V11);
    let event = room.make(&state, 5, "alice", "m.room.message", None, json!({}));
    let rules = &room.rules.authorization;
    let bad = state[&key("m.room.power_levels", "")].clone();
    let rejected = check_by_auth_events(&event, rules, |id| {
        let event = room.events.get(id)?;
        Some((**event).clone().with_rejected(id == bad).into())
    });
    assert_eq!(rejected.unwrap_err().rule, "auth.events");
    let missing = check_by_auth_events(&event, rules, |id| {
        room.events.get(id).filter(|event| event.event_id() != bad).cloned()
    });
    assert!(missing.is_err());
}

#[test]
fn the_create_event_is_always_asked_for() {
    let raw = serde_json::value::to_raw_value(&json!({})).unwrap();
    for version in [RoomVersionId::V11, RoomVersionId::V12] {
        let rules = version.rules().unwrap().authorization;
        let sender = user("alice");
        let keys = state_keys_to_check(&"m.room.message".into(), &sender, None, &raw, &rules);
        let mut keys = keys.unwrap();
        keys.sort();
        let mut expected = [
            key("m.room.create", ""),
            key("m.room.member", "@alice:one.example"),
            key("m.room.power_levels", ""),
        ];
        expected.sort();
        assert_eq!(keys, expected);
    }
    let rules = RoomVersionId::V11.rules().unwrap().authorization;
    let sender = user("alice");
    let no_key = state_keys_to_check(&"m.room.member".into(), &sender, None, &raw, &rules);
    assert_eq!(no_key.unwrap_err().rule, "auth.selection");
}
