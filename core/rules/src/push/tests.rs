//! Outcomes of the default rules, and that asking once for all is the same as asking for each.

use std::sync::Arc;

use colonnade_model::ruma::{
    OwnedUserId, RoomVersionId,
    push::{Action, NewPushRule, NewSimplePushRule, Ruleset},
};
use serde_json::{Value, json};

use super::{Evaluator, named_users, server_default};
use crate::{
    event::Event,
    power::PowerLevels,
    sample::{Room, StateIds, key, user},
};

struct Sample {
    room: Room,
    state: StateIds,
}

impl Sample {
    fn new() -> Self {
        let (mut room, mut state) = Room::new(RoomVersionId::V12);
        room.join(&mut state, 5, "bob");
        Self { room, state }
    }

    fn event(
        &mut self,
        by: &str,
        kind: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Arc<Event> {
        self.room.make(&self.state, 9, by, kind, state_key, content)
    }

    fn evaluator(&self, event: &Event, members: u64) -> Evaluator {
        let event_of = |kind| self.room.events[&self.state[&key(kind, "")]].clone();
        let rules = &self.room.rules.authorization;
        let create = event_of("m.room.create");
        let levels = event_of("m.room.power_levels");
        let levels = PowerLevels::new(&create, Some(&levels), rules).unwrap();
        Evaluator::new(event, members, Some(levels.for_push(rules)))
    }

    /// Notify, highlight, sound.
    fn outcome(&self, event: &Event, members: u64, name: &str) -> (bool, bool, Option<String>) {
        let user = user(name);
        let rules = server_default(&user);
        let mut evaluator = self.evaluator(event, members);
        let outcome = evaluator.evaluate(&user, name, &rules);
        (outcome.notify(), outcome.highlight(), outcome.sound())
    }
}

fn sound() -> Option<String> {
    Some("default".to_owned())
}

#[test]
fn default_rules() {
    let mut sample = Sample::new();
    let text = json!({ "msgtype": "m.text", "body": "hello" });
    let message = sample.event("alice", "m.room.message", None, text);
    assert_eq!(sample.outcome(&message, 3, "bob"), (true, false, None));
    assert_eq!(sample.outcome(&message, 2, "bob"), (true, false, sound()));
    assert_eq!(sample.outcome(&message, 2, "alice"), (false, false, None), "the sender");
    let notice = json!({ "msgtype": "m.notice", "body": "hello" });
    let notice = sample.event("alice", "m.room.message", None, notice);
    assert_eq!(sample.outcome(&notice, 2, "bob"), (false, false, None));
    let named = json!({ "body": "x", "m.mentions": { "user_ids": ["@bob:one.example"] } });
    let named = sample.event("alice", "m.room.message", None, named);
    assert_eq!(sample.outcome(&named, 9, "bob"), (true, true, sound()));
    assert_eq!(sample.outcome(&named, 9, "carol"), (true, false, None));
    let all = json!({ "body": "x", "m.mentions": { "room": true } });
    let by_creator = sample.event("alice", "m.room.message", None, all.clone());
    assert!(sample.outcome(&by_creator, 9, "bob").1);
    let by_nobody = sample.event("carol", "m.room.message", None, all);
    assert!(!sample.outcome(&by_nobody, 9, "bob").1, "carol may not notify the room");
    let invite = json!({ "membership": "invite" });
    let invite = sample.event("alice", "m.room.member", Some("@dave:one.example"), invite);
    assert_eq!(sample.outcome(&invite, 9, "dave"), (true, false, sound()));
    assert_eq!(sample.outcome(&invite, 9, "bob"), (false, false, None));
}

#[test]
fn rules_of_ones_own() {
    let mut sample = Sample::new();
    let message = sample.event("alice", "m.room.message", None, json!({ "body": "x" }));
    let bob = user("bob");
    let mut muted = server_default(&bob);
    let room = sample.room.room_id.clone().unwrap();
    let rule = NewPushRule::Room(NewSimplePushRule::new(room, vec![]));
    muted.insert(rule, None, None).unwrap();
    let mut evaluator = sample.evaluator(&message, 3);
    assert!(!evaluator.evaluate(&bob, "bob", &muted).notify());
    assert!(evaluator.evaluate(&bob, "bob", &server_default(&bob)).notify());
    assert!(!evaluator.evaluate(&bob, "bob", &Ruleset::new()).notify());
}

fn words(actions: &[Action]) -> String {
    serde_json::to_string(actions).unwrap()
}

#[test]
fn once_for_all_is_the_same_as_for_each() {
    let mut sample = Sample::new();
    let users: Vec<OwnedUserId> = ["bob", "carol", "dave"].map(user).into();
    let contents = [
        ("m.room.message", None, json!({ "msgtype": "m.text", "body": "bob carol @room" })),
        ("m.room.message", None, json!({ "msgtype": "m.notice", "body": "hello" })),
        (
            "m.room.message",
            None,
            json!({ "m.mentions": { "user_ids": ["@carol:one.example", 7] } }),
        ),
        ("m.room.message", None, json!({ "m.mentions": { "room": true } })),
        ("m.room.message", None, json!({ "m.mentions": 3 })),
        ("m.room.message", None, json!({ "m.relates_to": { "rel_type": "m.replace" } })),
        ("m.room.encrypted", None, json!({})),
        ("m.reaction", None, json!({})),
        ("m.call.invite", None, json!({})),
        ("m.room.topic", Some(""), json!({ "topic": "x" })),
        ("m.room.tombstone", Some(""), json!({})),
        ("m.room.member", Some("@dave:one.example"), json!({ "membership": "invite" })),
        ("m.room.member", Some("@bob:one.example"), json!({ "membership": "ban" })),
        ("m.room.member", Some("@alice:one.example"), json!({ "membership": "join" })),
    ];
    for (kind, state_key, content) in contents {
        let event = sample.event("alice", kind, state_key, content);
        for members in [2, 3] {
            let mut evaluator = sample.evaluator(&event, members);
            let all = words(evaluator.class_zero().actions);
            let named = named_users(&event);
            for user in &users {
                let rules = server_default(user);
                let each = words(evaluator.evaluate(user, "name", &rules).actions);
                if !named.contains(user) {
                    assert_eq!(each, all, "{kind} {user}");
                }
            }
        }
    }
}

#[test]
fn nobody_can_name_everybody() {
    let mut sample = Sample::new();
    let many: Vec<String> = (0..1_500).map(|i| format!("@u{i}:a.b")).collect();
    let content = json!({ "m.mentions": { "user_ids": many } });
    let event = sample.event("alice", "m.room.message", None, content);
    assert_eq!(named_users(&event).len(), super::NAMED_USERS_MAX);
}

#[test]
fn a_damaged_row_means_nothing() {
    let mut sample = Sample::new();
    let message = sample.event("alice", "m.room.message", None, json!({ "body": "x" }));
    let damaged = message.json().replace("\"x\"", r#""\ud800""#);
    let id = message.event_id().to_owned();
    let damaged = Event::from_stored(damaged.into_bytes(), id, &sample.room.rules, false).unwrap();
    assert!(!sample.evaluator(&damaged, 3).class_zero().notify());
}
