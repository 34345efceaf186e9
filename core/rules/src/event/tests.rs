//! Making, reading, redacting and rendering events of every room version.

use colonnade_model::{
    ruma::{
        CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomVersionId, UInt,
        events::TimelineEventType,
        room_version_rules::RoomVersionRules,
        server_name,
        signatures::{Ed25519KeyPair, PublicKeyMap, Verified, verify_event},
        user_id,
    },
    versions::SUPPORTED,
};
use proptest::prelude::*;
use serde_json::{Value, json, value::to_raw_value};

use super::{
    ClientFormat, Draft, DraftError, Event, EventObject, Reference, Unsigned, content_from_json,
    depth_after,
};

mod versions;

fn key() -> Ed25519KeyPair {
    let der = Ed25519KeyPair::generate();
    Ed25519KeyPair::from_der(&der, "1".to_owned()).unwrap()
}

fn object(value: Value) -> CanonicalJsonObject {
    content_from_json(&to_raw_value(&value).unwrap()).unwrap()
}

fn event_id(name: &str) -> OwnedEventId {
    format!("${name:A<43}").try_into().unwrap()
}

fn named(name: &str) -> Reference {
    Reference { event_id: event_id(name), sha256: Some("hash".to_owned()) }
}

fn draft(event_type: &str, content: Value) -> Draft {
    Draft {
        room_id: Some("!room:one.example".try_into().unwrap()),
        sender: user_id!("@alice:one.example").to_owned(),
        event_type: TimelineEventType::from(event_type),
        state_key: None,
        content: object(content),
        prev_events: vec![named("prev")],
        auth_events: vec![named("auth")],
        depth: 7,
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000u32)),
        redacts: None,
        opaque_id: Some("opaque".to_owned()),
    }
}

fn sign(draft: Draft, rules: &RoomVersionRules) -> Result<Event, DraftError> {
    draft.sign(server_name!("one.example"), &key(), rules)
}

fn client(event: &Event, format: ClientFormat) -> Value {
    serde_json::from_str(event.to_client(format, None).get()).unwrap()
}

#[test]
fn a_signed_event_verifies_and_reads_back() {
    for version in SUPPORTED {
        let rules = version.rules().unwrap();
        let key = key();
        let draft = draft("m.room.message", json!({ "body": "hé", "n": 1 }));
        let event = draft.sign(server_name!("one.example"), &key, &rules).unwrap();

        let object: CanonicalJsonObject = serde_json::from_str(event.json()).unwrap();
        let public = colonnade_model::ruma::serde::Base64::new(key.public_key().to_vec());
        let keys = PublicKeyMap::from([(
            "one.example".to_owned(),
            [("ed25519:1".to_owned(), public)].into(),
        )]);
        assert!(matches!(verify_event(&keys, &object, &rules), Ok(Verified::All)));

        let parsed = Event::parse(&EventObject::from(object), &rules).unwrap();
        assert_eq!(parsed.event_id(), event.event_id());
        assert_eq!(parsed.json(), event.json());
        let stored = event.json().as_bytes().to_vec();
        let stored = Event::from_stored(stored, event.event_id().to_owned(), &rules, true).unwrap();
        assert_eq!(stored.content().get(), r#"{"body":"hé","n":1}"#);
        assert_eq!(stored.depth(), 7);
        assert_eq!(stored.prev_events(), [event_id("prev")]);
        assert_eq!(stored.auth_events(), [event_id("auth")]);
        assert!(stored.rejected());
        assert_eq!(stored.state_key(), None);
    }
}

#[test]
fn a_v12_create_event_makes_its_room() {
    let rules = RoomVersionId::V12.rules().unwrap();
    let mut create = draft("m.room.create", json!({ "room_version": "12" }));
    create.state_key = Some(String::new());
    create.prev_events.clear();
    create.auth_events.clear();
    assert!(matches!(sign(create.clone(), &rules), Err(DraftError::Malformed(_))));
    create.room_id = None;
    let old = RoomVersionId::V11.rules().unwrap();
    assert!(matches!(sign(create.clone(), &old), Err(DraftError::Malformed(_))));

    let create = sign(create, &rules).unwrap();
    let room_id = create.room_id().to_owned();
    assert_eq!(room_id.strip_sigil(), &create.event_id().as_str()[1..]);
    assert_eq!(ruma_room_id(&create), None);
    assert!(!create.json().contains("room_id"));

    let mut next = draft("m.room.message", json!({}));
    next.room_id = Some(room_id.clone());
    next.auth_events.push(create.reference(&rules).unwrap());
    let next = sign(next, &rules).unwrap();
    assert_eq!(next.auth_events(), [event_id("auth")]);
    assert_eq!(ruma_room_id(&next).as_deref(), Some(&*room_id));
}

fn ruma_room_id(event: &Event) -> Option<colonnade_model::ruma::OwnedRoomId> {
    fn of(
        event: &impl colonnade_model::ruma::state_res::Event,
    ) -> Option<&colonnade_model::ruma::RoomId> {
        event.room_id()
    }
    of(event).map(ToOwned::to_owned)
}

#[test]
fn limits_are_refused_not_cut() {
    let rules = RoomVersionId::V11.rules().unwrap();
    let long = "x".repeat(256);
    let mut state = draft("m.room.topic", json!({}));
    state.state_key = Some(long[1..].to_owned());
    assert!(sign(state.clone(), &rules).is_ok());
    state.state_key = Some(long.clone());
    let too_long = |field| Err(DraftError::FieldTooLong { field, bytes: 256 });
    assert_eq!(sign(state, &rules).map(|_| ()), too_long("state_key"));
    assert_eq!(sign(draft(&long, json!({})), &rules).map(|_| ()), too_long("type"));
    let nul = sign(draft("a\0b", json!({})), &rules);
    assert!(matches!(nul, Err(DraftError::Malformed(_))));

    // The largest event that fits, and one byte more.
    let overhead = sign(draft("m.room.message", json!({ "body": "" })), &rules).unwrap();
    let room = super::EVENT_BYTES_MAX - overhead.json().len();
    let body = "x".repeat(room);
    let largest = sign(draft("m.room.message", json!({ "body": body })), &rules).unwrap();
    assert_eq!(largest.json().len(), super::EVENT_BYTES_MAX);
    let body = "x".repeat(room + 1);
    let refused = sign(draft("m.room.message", json!({ "body": body })), &rules);
    assert_eq!(refused.map(|_| ()), Err(DraftError::TooLarge { bytes: 65_537 }));

    let mut crowded = draft("m.room.message", json!({}));
    crowded.prev_events = (0..21).map(|i| named(&format!("p{i}"))).collect();
    assert!(matches!(sign(crowded, &rules), Err(DraftError::Malformed(_))));
}

#[test]
fn only_canonical_json_is_content() {
    for bad in [
        "1",
        "[]",
        "{\"a\":1.5}",
        "{\"a\":1e3}",
        "{\"a\":9007199254740992}",
        "{\"a\":-9007199254740992}",
        "{\"a\":{\"b\":[0.1]}}",
    ] {
        let raw = serde_json::value::RawValue::from_string(bad.to_owned()).unwrap();
        assert!(matches!(content_from_json(&raw), Err(DraftError::Malformed(_))), "{bad}");
    }
    for good in ["{}", "{\"a\":9007199254740991}", "{\"a\":-9007199254740991,\"b\":null}"] {
        let raw = serde_json::value::RawValue::from_string(good.to_owned()).unwrap();
        assert!(content_from_json(&raw).is_ok(), "{good}");
    }
}

#[test]
fn depth_stays_in_range() {
    assert_eq!(depth_after([]), 1);
    assert_eq!(depth_after([4, 9, 2]), 10);
    assert_eq!(depth_after([u64::MAX]), (1 << 53) - 1);
    let mut deep = draft("m.room.message", json!({}));
    deep.depth = u64::MAX;
    let rules = RoomVersionId::V11.rules().unwrap();
    assert_eq!(sign(deep, &rules).unwrap().depth(), (1 << 53) - 1);
}

#[test]
fn a_redaction_says_what_it_redacts_in_both_places() {
    for (version, in_content) in [(RoomVersionId::V10, false), (RoomVersionId::V11, true)] {
        let rules = version.rules().unwrap();
        let mut draft = draft("m.room.redaction", json!({ "reason": "spam" }));
        draft.redacts = Some(event_id("gone"));
        let event = sign(draft, &rules).unwrap();
        assert_eq!(event.redacts(), Some(&*event_id("gone")));
        let stored: Value = serde_json::from_str(event.json()).unwrap();
        assert_eq!(stored.get("redacts").is_some(), !in_content);
        assert_eq!(stored["content"].get("redacts").is_some(), in_content);
        let seen = client(&event, ClientFormat::WithoutRoom);
        assert_eq!(seen["redacts"], event_id("gone").as_str());
        assert_eq!(seen["content"]["redacts"], event_id("gone").as_str());
        assert_eq!(seen["content"]["reason"], "spam");
    }
}

#[test]
fn redacting_keeps_the_id_and_drops_the_body() {
    for version in SUPPORTED {
        let rules = version.rules().unwrap();
        let event = sign(draft("m.room.message", json!({ "body": "secret" })), &rules).unwrap();
        let redacted = event.redacted(&rules).unwrap();
        assert_eq!(redacted.content().get(), "{}");
        assert_eq!(redacted.event_id(), event.event_id());
        assert!(!redacted.json().contains("secret"));
        let object = EventObject::parse(redacted.json(), &rules).unwrap();
        assert_eq!(Event::parse(&object, &rules).unwrap().event_id(), event.event_id());
    }
}

#[test]
fn clients_see_what_the_format_says() {
    let rules = RoomVersionId::V11.rules().unwrap();
    let mut member = draft("m.room.member", json!({ "membership": "join" }));
    member.state_key = Some("@alice:one.example".to_owned());
    let event = sign(member, &rules).unwrap();
    assert_eq!(event.membership().unwrap().as_str(), "join");
    let fields = |value: Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        fields(client(&event, ClientFormat::WithRoom)),
        ["content", "event_id", "origin_server_ts", "room_id", "sender", "state_key", "type"]
    );
    assert_eq!(
        fields(client(&event, ClientFormat::WithoutRoom)),
        ["content", "event_id", "origin_server_ts", "sender", "state_key", "type"]
    );
    assert_eq!(
        fields(client(&event, ClientFormat::Stripped)),
        ["content", "sender", "state_key", "type"]
    );
    let unsigned = Unsigned { age: Some(5), transaction_id: Some("t"), ..Unsigned::default() };
    let seen = event.to_client(ClientFormat::WithoutRoom, Some(&unsigned));
    let seen: Value = serde_json::from_str(seen.get()).unwrap();
    assert_eq!(seen["unsigned"], json!({ "age": 5, "transaction_id": "t" }));
}

proptest! {
    #[test]
    fn parsing_is_total(text in ".{0,200}", field in "[a-z_]{1,16}", number in any::<i64>(), version in 0..12_usize) {
        let rules = SUPPORTED[version].rules().unwrap();
        let id = event_id("any");
        let _ = Event::from_stored(text.clone().into_bytes(), id.clone(), &rules, false);
        let event = sign(draft("m.room.message", json!({})), &rules).unwrap();
        for value in [json!(text), json!(number), json!([text]), Value::Null] {
            let mut damaged: Value = serde_json::from_str(event.json()).unwrap();
            for name in [field.as_str(), "room_id", "depth", "sender", "type", "content"] {
                damaged[name] = value.clone();
                let bytes = serde_json::to_vec(&damaged).unwrap();
                let _ = Event::from_stored(bytes.clone(), id.clone(), &rules, false);
                if let Ok(object) = EventObject::parse(&damaged.to_string(), &rules) {
                    let _ = Event::parse(&object, &rules);
                }
            }
        }
    }
}

#[test]
fn what_older_versions_stored_too_deep_is_shown_empty() {
    let rules = RoomVersionId::V11.rules().unwrap();
    let nested = |levels: usize| {
        let (open, close) = ("{\"a[{\\\"\":".repeat(levels - 1), "}".repeat(levels - 1));
        serde_json::from_str::<Value>(&format!("{open}{{}}{close}")).unwrap()
    };
    for (levels, is_shown) in [(1, true), (99, true), (100, true), (101, false), (120, false)] {
        let event = sign(draft("m.room.message", nested(levels)), &rules).unwrap();
        let stored = event.json().as_bytes().to_vec();
        let id = event.event_id().to_owned();
        let event = Event::from_stored(stored, id, &rules, false).unwrap();
        let wanted = if is_shown { nested(levels) } else { json!({}) };
        assert_eq!(client(&event, ClientFormat::WithRoom)["content"], wanted, "{levels}");
        assert_eq!(event.content().get(), nested(levels).to_string(), "{levels}");
    }
    let wide = json!({ "a": vec![json!([]); 200] });
    let event = sign(draft("m.room.message", wide.clone()), &rules).unwrap();
    assert_eq!(client(&event, ClientFormat::WithRoom)["content"], wide);
}
