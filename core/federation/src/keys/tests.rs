//! Keys as servers publish them, and as nobody should; what is valid when.

use colonnade_model::ruma::{
    CanonicalJsonObject,
    serde::base64::Standard,
    server_name,
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use super::*;

const NOW_MS: i64 = 1_000_000_000_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn key(version: &str) -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), version.to_owned()).unwrap()
}

fn public(key: &Ed25519KeyPair) -> String {
    Base64::<Standard, _>::new(key.public_key()).encode()
}

/// What `a.example` publishes: signed with `signer`.
fn document(value: Value, signer: &Ed25519KeyPair) -> CanonicalJsonObject {
    let mut object: CanonicalJsonObject = serde_json::from_value(value).unwrap();
    sign_json("a.example", signer, &mut object).unwrap();
    object
}

fn plain(current: &Ed25519KeyPair, old: &Ed25519KeyPair, valid_until_ms: i64) -> Value {
    json!({
        "server_name": "a.example",
        "valid_until_ts": valid_until_ms,
        "verify_keys": { "ed25519:new": { "key": public(current) } },
        "old_verify_keys": { "ed25519:old": { "key": public(old), "expired_ts": NOW_MS - DAY_MS } },
    })
}

fn read(object: &CanonicalJsonObject) -> Result<Published, &'static str> {
    read_published(object, server_name!("a.example"), NOW_MS)
}

#[test]
fn what_a_server_publishes_is_read_and_no_key_is_valid_for_more_than_a_week() {
    let (current, old) = (key("new"), key("old"));
    for (until_ms, valid_ms) in [
        (NOW_MS + DAY_MS, NOW_MS + DAY_MS),
        (NOW_MS + 400 * DAY_MS, NOW_MS + 7 * DAY_MS),
        (NOW_MS - DAY_MS, NOW_MS - DAY_MS),
    ] {
        let published = read(&document(plain(&current, &old, until_ms), &current)).unwrap();
        assert_eq!(published.valid_until_ms, valid_ms);
        let found: Vec<_> =
            published.keys.iter().map(|key| (key.key_id.as_str(), key.valid_until_ms)).collect();
        assert_eq!(found, [("ed25519:new", valid_ms), ("ed25519:old", NOW_MS - DAY_MS)]);
    }
}

#[test]
fn what_nobody_signed_or_another_server_published_is_not_taken() {
    let (current, old) = (key("new"), key("old"));
    let right = plain(&current, &old, NOW_MS + DAY_MS);
    let changed = |name: &str, value: Value| {
        let mut changed = right.clone();
        changed[name] = value;
        changed
    };
    let unsigned = serde_json::from_value(right.clone()).unwrap();
    assert!(read(&unsigned).is_err());
    assert!(read(&document(right.clone(), &key("new"))).is_err(), "another key by its name");
    assert!(read(&document(right.clone(), &old)).is_err(), "a key of before proves nothing");
    let mut later = document(right.clone(), &current);
    later.insert("valid_until_ts".to_owned(), serde_json::from_value(json!(NOW_MS + 2)).unwrap());
    assert!(read(&later).is_err(), "changed after it was signed");
    for wrong in [
        changed("server_name", json!("b.example")),
        changed("valid_until_ts", json!("soon")),
        changed("verify_keys", json!({})),
        changed("verify_keys", json!([])),
        changed("verify_keys", json!({ "ed25519:new": { "key": "c2hvcnQ" } })),
    ] {
        assert!(read(&document(wrong.clone(), &current)).is_err(), "{wrong}");
    }
    let many: serde_json::Map<_, _> = (0..200)
        .map(|n| (format!("ed25519:{n}"), json!({ "key": public(&old), "expired_ts": 1 })))
        .collect();
    assert!(read(&document(changed("old_verify_keys", many.into()), &current)).is_err());
    // What is unknown or broken beside them spoils nothing.
    let odd = json!({ "ed25519:x": 1, "rsa:1": {}, "ed25519:y": { "key": "?", "expired_ts": 1 } });
    let odd = read(&document(changed("old_verify_keys", odd), &current)).unwrap();
    assert_eq!(odd.keys.len(), 1);
}

#[test]
fn a_key_proves_what_was_made_while_it_was_valid() {
    let one = Key { public: Base64::new(vec![1]), valid_until_ms: 100 };
    let keys = ServerKeys::from([("ed25519:a".to_owned(), one)]);
    let names = |at| Names::from([("ed25519:a".to_owned(), at)]);
    assert!(has_all(&keys, &names(Some(100))) && has_all(&keys, &names(None)));
    assert!(!has_all(&keys, &names(Some(101))));
    assert!(!has_all(&keys, &Names::from([("ed25519:b".to_owned(), None)])));
    let server = server_name!("a.example");
    let found = VerificationKeys(BTreeMap::from([(server.to_owned(), Arc::new(keys))]));
    assert!(found.key(server, "ed25519:a", Some(100)).is_some());
    assert!(found.key(server, "ed25519:a", Some(101)).is_none());
    assert!(found.key(server, "ed25519:b", None).is_none());
    assert_eq!(found.valid_at(Some(100))["a.example"].len(), 1);
    assert_eq!(found.valid_at(Some(101))["a.example"].len(), 0);
    assert!(found.of([server_name!("b.example")], None).is_empty());
}

#[test]
fn a_server_that_answers_is_asked_ten_times_a_minute_at_most() {
    let mut pause = Pause::default();
    for asked in 1..=10 {
        assert!(pause.until_ms < NOW_MS + asked, "{asked}");
        pause = pause.after_answer((10, 60_000), NOW_MS + asked - 1);
    }
    assert_eq!(pause.until_ms, NOW_MS + 60_000);
    let later = pause.after_answer((10, 60_000), NOW_MS + 60_000);
    assert_eq!((later.until_ms, later.answered), (NOW_MS + 60_000, (1, NOW_MS + 60_000)));
}
