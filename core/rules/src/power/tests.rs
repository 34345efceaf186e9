//! Levels with and without a power levels event, and creators above all levels.

use colonnade_model::ruma::{
    Int, RoomVersionId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
};
use serde_json::{Value, json};

use super::{PowerLevels, with_integers};
use crate::{
    auth::Rejection,
    event::Event,
    sample::{Room, StateIds, key, user},
};

fn levels(version: RoomVersionId, content: Option<Value>) -> Result<PowerLevels, Rejection> {
    let (mut room, state) = Room::new(version);
    let create = room.events[&state[&key("m.room.create", "")]].clone();
    let event = content.map(|content| {
        room.make(&StateIds::new(), 9, "alice", "m.room.power_levels", Some(""), content)
    });
    PowerLevels::new(&create, event.as_deref(), &room.rules.authorization)
}

fn int(level: i32) -> UserPowerLevel {
    UserPowerLevel::Int(Int::from(level))
}

#[test]
fn without_an_event_the_creator_rules() {
    let levels = levels(RoomVersionId::V11, None).unwrap();
    assert_eq!(levels.user(&user("alice")), int(100));
    assert_eq!(levels.user(&user("bob")), int(0));
    assert!(levels.may_send_state(&user("alice"), &TimelineEventType::RoomName));
    assert!(!levels.may_send_state(&user("bob"), &TimelineEventType::RoomName));
    assert!(levels.may_send_message(&user("bob"), &TimelineEventType::RoomMessage));
    assert!(levels.may_invite(&user("bob")));
    assert!(!levels.may_notify_room(&user("bob")));
}

#[test]
fn with_an_event_the_event_rules() {
    let content = json!({
        "users": { "@bob:one.example": 60, "@carol:one.example": 60 }, "users_default": 10,
        "events": { "m.room.name": 5, "m.room.redaction": 20 }, "kick": 55, "ban": 70,
        "redact": 65, "invite": 11, "notifications": { "room": 60 },
    });
    let levels = levels(RoomVersionId::V11, Some(content)).unwrap();
    let (alice, bob, carol) = (&user("alice"), &user("bob"), &user("carol"));
    assert_eq!(levels.user(alice), int(10));
    assert!(levels.may_send_state(alice, &TimelineEventType::RoomName));
    assert!(!levels.may_send_state(alice, &TimelineEventType::RoomTopic));
    assert!(levels.may_kick(bob, alice));
    assert!(!levels.may_kick(bob, carol), "an equal cannot be kicked");
    assert!(!levels.may_ban(bob, alice));
    assert!(!levels.may_unban(bob, alice));
    assert!(!levels.may_invite(alice));
    assert!(levels.may_redact(bob, bob));
    assert!(!levels.may_redact(bob, alice));
    assert!(!levels.may_redact(alice, alice), "redactions need 20 here");
    assert!(levels.may_notify_room(bob));
}

#[test]
fn creators_of_new_rooms_stand_above() {
    let content = json!({ "users": { "@bob:one.example": 9_000 }, "ban": 9_000 });
    let levels = levels(RoomVersionId::V12, Some(content)).unwrap();
    assert_eq!(levels.user(&user("alice")), UserPowerLevel::Infinite);
    assert!(levels.may_ban(&user("alice"), &user("bob")));
    assert!(!levels.may_ban(&user("bob"), &user("alice")));
    assert!(levels.creators().contains(&user("alice")));
}

#[test]
fn malformed_levels_are_refused() {
    let text = json!({ "ban": "50" });
    assert!(levels(RoomVersionId::V9, Some(text.clone())).is_ok(), "text was a level once");
    assert_eq!(levels(RoomVersionId::V10, Some(text)).unwrap_err().rule, "auth.power");
    let users = json!({ "users": { "nobody": 1 } });
    assert!(levels(RoomVersionId::V11, Some(users)).is_err());
}

/// An event with this id and sender, which nothing else is asked of.
fn event(version: &RoomVersionId, id: &str, sender: &str, content: Value) -> Event {
    let json = json!({
        "auth_events": [], "content": content, "depth": 1, "origin_server_ts": 1, "prev_events": [],
        "room_id": "!r:x", "sender": sender, "type": "m.room.power_levels", "state_key": "",
    });
    let (id, rules) = (id.try_into().unwrap(), version.rules().unwrap());
    Event::from_stored(json.to_string().into_bytes(), id, &rules, false).unwrap()
}

#[test]
fn a_redaction_applies_by_level_or_within_a_server() {
    for version in colonnade_model::versions::SUPPORTED {
        let content = json!({ "users": { "@strong:two": 65 }, "redact": 65 });
        let rules = version.rules().unwrap().authorization;
        let levels = levels(version.clone(), Some(content)).unwrap();
        let by_id = ["1", "2"].contains(&version.as_str());
        // Redaction and target by id and sender, and whether it applies by ids and by senders.
        for (redaction, target, ids, senders) in [
            (("$a:one", "@bob:one"), ("$b:one", "@carol:one"), true, true),
            (("$a:two", "@bob:two"), ("$b:one", "@carol:one"), false, false),
            (("$a:one", "@bob:two"), ("$b:one", "@carol:one"), true, false),
            (("$a:two", "@bob:one"), ("$b:one", "@carol:one"), false, true),
            (("$a:two", "@strong:two"), ("$b:one", "@carol:one"), true, true),
        ] {
            let redaction = event(&version, redaction.0, redaction.1, json!({}));
            let target = event(&version, target.0, target.1, json!({}));
            let applies = levels.redaction_applies(&redaction, &target, &rules);
            assert_eq!(applies, if by_id { ids } else { senders }, "{version}");
        }
    }
}

#[test]
fn old_levels_are_given_as_integers() {
    let content = json!({
        "ban": " +0050 ", "kick": 50.9, "invite": 3, "redact": "many", "notes": "7",
        "users": { "@bob:one.example": "-5", "@carol:one.example": 1e3, "@eve:one.example": null },
        "events": { "m.room.name": "5" }, "notifications": [], "users_default": "1",
    });
    let old = event(&RoomVersionId::V1, "$a:one", "@alice:one", content);
    assert_eq!(
        with_integers(&old),
        json!({
            "ban": 50, "kick": 50, "invite": 3, "redact": "many", "notes": "7",
            "users": { "@bob:one.example": -5, "@carol:one.example": 1000, "@eve:one.example": null },
            "events": { "m.room.name": 5 }, "notifications": [], "users_default": 1,
        })
    );
    assert_eq!(with_integers(&event(&RoomVersionId::V1, "$a:one", "@a:one", json!([]))), json!([]));
}
