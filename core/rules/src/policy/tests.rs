//! What names a policy server, and what it signed.

use colonnade_model::ruma::{
    CanonicalJsonObject, RoomVersionId,
    signatures::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::json;

use super::*;

fn rules() -> RoomVersionRules {
    RoomVersionId::V11.rules().unwrap()
}

fn event(kind: &str, state_key: Option<&str>, content: Value) -> Event {
    let mut json = json!({
        "type": kind, "sender": "@alice:here", "room_id": "!room:here", "content": content,
        "depth": 1, "origin_server_ts": 1, "prev_events": [], "auth_events": [],
        "hashes": { "sha256": "" }, "signatures": { "here": { "ed25519:1": "own" } },
    });
    if let Some(state_key) = state_key {
        json["state_key"] = state_key.into();
    }
    let object: CanonicalJsonObject = serde_json::from_value(json).unwrap();
    Event::parse(&object.into(), &rules()).unwrap()
}

fn policy(content: Value) -> Option<RoomPolicy> {
    RoomPolicy::read(&event(ROOM_POLICY, Some(""), content))
}

fn key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "policy_server".to_owned()).unwrap()
}

fn signed_by(key: &Ed25519KeyPair, event: &Event) -> String {
    let object = EventObject::parse(event.json(), &rules()).unwrap();
    key.sign(object.signed_json(&rules()).unwrap().as_bytes()).base64()
}

#[test]
fn who_is_named_without_a_server_or_a_key_is_nobody() {
    for content in [
        json!({}),
        json!({ "via": "ps" }),
        json!({ "via": "ps", "public_keys": {} }),
        json!({ "via": "ps", "public_keys": { "ed25519": 5 } }),
        json!({ "via": 5, "public_keys": { "ed25519": "a" } }),
        json!({ "via": "no name", "public_keys": { "ed25519": "a" } }),
        json!({ "via": "ps", "public_key": "a" }),
    ] {
        assert_eq!(policy(content.clone()), None, "{content}");
    }
    // A key that is none can sign nothing; the room names a server all the same.
    let unusable = policy(json!({ "via": "ps", "public_keys": { "ed25519": "a" } })).unwrap();
    assert_eq!((unusable.server().as_str(), unusable.key), ("ps", None));
    let example = "6yhHGKhCiXTSEN2ksjV7kX_N6rBQZ3Xb-M7LlC6NS-s";
    for text in [example.to_owned(), example.replace('_', "/").replace('-', "+")] {
        let usable = policy(json!({ "via": "ps", "public_keys": { "ed25519": text } })).unwrap();
        assert!(usable.key.is_some());
    }
}

#[test]
fn only_its_own_signature_with_the_rooms_key_counts() {
    let (right, wrong) = (key(), key());
    let public = Base64::<Standard, _>::new(right.public_key().to_vec()).encode();
    let policy = policy(json!({ "via": "ps", "public_keys": { "ed25519": public } })).unwrap();
    let message = event("m.room.message", None, json!({ "body": "hello" }));
    assert!(!policy.has_signed(&message, &rules()).unwrap());
    let forged = signed_by(&wrong, &message);
    let forged = policy.with_signature(&message, &forged, &rules()).unwrap();
    assert!(!policy.has_signed(&forged, &rules()).unwrap());
    // A wrong one gives way to the right one, and the event is the same.
    let signed = policy.with_signature(&forged, &signed_by(&right, &message), &rules()).unwrap();
    assert!(policy.has_signed(&signed, &rules()).unwrap());
    assert_eq!(signed.event_id(), message.event_id());
    assert!(signed.json().contains("\"ed25519:1\":\"own\""), "its server's stays");
    let other = event("m.room.topic", Some(""), json!({ "topic": "hello" }));
    let other = policy.with_signature(&other, &signed_by(&right, &message), &rules()).unwrap();
    assert!(!policy.has_signed(&other, &rules()).unwrap(), "that of another event");
}

#[test]
fn it_is_asked_about_everything_but_its_own_name() {
    let asked = |kind: &str, state_key| is_asked_about(&kind.into(), state_key);
    assert!(!asked(ROOM_POLICY, Some("")));
    for (kind, state_key) in [
        (ROOM_POLICY, None),
        (ROOM_POLICY, Some("x")),
        ("m.room.message", None),
        ("m.room.member", Some("@a:b")),
        ("m.room.power_levels", Some("")),
    ] {
        assert!(asked(kind, state_key), "{kind}");
    }
}
