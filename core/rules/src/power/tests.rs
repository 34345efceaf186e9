//! Levels with and without a power levels event, and creators above all levels.

use colonnade_model::ruma::{
    Int, RoomVersionId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    user_id,
};
use serde_json::{Value, json};

use super::PowerLevels;
use crate::{
    auth::Rejection,
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
    assert!(levels.redaction_applies(alice, bob), "same server");
    assert!(!levels.redaction_applies(user_id!("@x:two.example"), bob));
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
