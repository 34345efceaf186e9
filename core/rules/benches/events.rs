//! Events: hash and sign, read back, authorize, render, evaluate push rules.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use colonnade_model::ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, RoomVersionId, UInt,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    server_name,
    signatures::Ed25519KeyPair,
    user_id,
};
use colonnade_rules::{
    auth::check_by_state,
    event::{ClientFormat, Draft, Event, Reference, content_from_json},
    push::{Evaluator, server_default},
};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Value, json, value::to_raw_value};

struct Maker {
    rules: RoomVersionRules,
    key: Ed25519KeyPair,
    room_id: Option<OwnedRoomId>,
}

impl Maker {
    fn draft(
        &self,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
        auth_events: Vec<Reference>,
    ) -> Draft {
        let content = to_raw_value(&content).expect("a literal");
        Draft {
            room_id: self.room_id.clone(),
            sender: user_id!("@alice:one.example").to_owned(),
            event_type: TimelineEventType::from(event_type),
            state_key: state_key.map(str::to_owned),
            content: content_from_json(&content).expect("a literal"),
            prev_events: auth_events.clone(),
            auth_events,
            depth: 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1u32)),
            redacts: None,
            opaque_id: None,
        }
    }

    fn sign(&self, draft: Draft) -> Arc<Event> {
        let event = draft.sign(server_name!("one.example"), &self.key, &self.rules);
        Arc::new(event.expect("a small event"))
    }
}

type State = HashMap<(StateEventType, String), Arc<Event>>;

fn room() -> (Maker, State) {
    let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned())
        .expect("a key just made");
    let rules = RoomVersionId::V12.rules().expect("a known version");
    let mut maker = Maker { rules, key, room_id: None };
    let mut state = State::new();
    let create = maker.draft("m.room.create", Some(""), json!({ "room_version": "12" }), vec![]);
    let create = maker.sign(create);
    maker.room_id = Some(create.room_id().to_owned());
    state.insert((StateEventType::RoomCreate, String::new()), create);
    let users: HashMap<String, i64> = (0..50).map(|i| (format!("@u{i}:one.example"), i)).collect();
    for (event_type, state_key, content) in [
        ("m.room.member", "@alice:one.example", json!({ "membership": "join" })),
        ("m.room.power_levels", "", json!({ "users": users })),
    ] {
        let named = |event: &Arc<Event>| event.reference(&maker.rules).expect("an event");
        let auth_events = state.values().map(named).collect();
        let event = maker.sign(maker.draft(event_type, Some(state_key), content, auth_events));
        state.insert((StateEventType::from(event_type), state_key.to_owned()), event);
    }
    (maker, state)
}

fn benches(c: &mut Criterion) {
    let (maker, state) = room();
    let named = |event: &Arc<Event>| event.reference(&maker.rules).expect("an event");
    let auth_events: Vec<_> = state.values().map(named).collect();
    let content = json!({ "msgtype": "m.text", "body": "the quick brown fox" });
    let draft = maker.draft("m.room.message", None, content, auth_events);
    let event = maker.sign(draft.clone());

    c.bench_function("event/hash and sign", |b| {
        b.iter(|| black_box(maker.sign(draft.clone())));
    });
    c.bench_function("event/read back", |b| {
        b.iter(|| {
            let json = event.json().as_bytes().to_vec();
            black_box(Event::from_stored(json, event.event_id().into(), &maker.rules, false))
        });
    });
    c.bench_function("event/authorize", |b| {
        b.iter(|| {
            black_box(check_by_state(&event, &maker.rules.authorization, |kind, key| {
                state.get(&(kind.clone(), key.to_owned())).cloned()
            }))
        });
    });
    c.bench_function("event/render for a client", |b| {
        b.iter(|| black_box(event.to_client(ClientFormat::WithoutRoom, None)));
    });
    c.bench_function("push/prepare and ask for all", |b| {
        b.iter(|| black_box(Evaluator::new(&event, 100, None).class_zero().notify()));
    });
    let bob = user_id!("@bob:one.example");
    let rules = server_default(bob);
    let mut evaluator = Evaluator::new(&event, 100, None);
    c.bench_function("push/ask for one user", |b| {
        b.iter(|| black_box(evaluator.evaluate(bob, "bob", &rules).notify()));
    });
}

criterion_group!(all, benches);
criterion_main!(all);
