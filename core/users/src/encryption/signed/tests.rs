//! Signatures fit what was signed by that key, and nothing else.

use colonnade_model::ruma::signatures::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::*;

fn parse(value: serde_json::Value) -> CanonicalJsonObject {
    serde_json::from_value(value).unwrap()
}

#[test]
fn only_the_right_key_on_the_right_content_verifies() {
    let pair = || {
        let document = Ed25519KeyPair::generate();
        Ed25519KeyPair::from_der(&document, "1".to_owned()).unwrap()
    };
    let (alice, mallory) = (pair(), pair());
    let encode = |pair: &Ed25519KeyPair| Base64::<_, Vec<u8>>::new(pair.public_key().to_vec());
    let mut object = parse(json!({ "user_id": "@alice:localhost", "keys": { "ed25519:a": "k" } }));
    let signed = to_canonical_json_string_for_signing(&object).unwrap();
    let signature = alice.sign(signed.as_bytes()).base64();
    let key = |pair| -> String {
        let key: Base64 = encode(pair);
        key.encode()
    };
    object.insert("signatures".to_owned(), CanonicalJsonValue::Object(Default::default()));
    object.insert("unsigned".to_owned(), CanonicalJsonValue::Null);
    verify(&object, &signature, &key(&alice)).unwrap();
    assert_eq!(
        verify(&object, &signature, &key(&mallory)).unwrap_err().errcode,
        "M_INVALID_SIGNATURE"
    );
    assert!(verify(&object, "%", &key(&alice)).is_err());
    assert!(verify(&object, "AAAA", &key(&alice)).is_err());
    assert!(verify(&object, &signature, "AAAA").is_err());
    object.insert("more".to_owned(), CanonicalJsonValue::Null);
    assert!(verify(&object, &signature, &key(&alice)).is_err());
}

#[test]
fn signatures_are_read_by_signer() {
    let mut object = parse(json!({
        "signatures": { "@a:b": { "ed25519:1": "x", "ed25519:2": 7 }, "@c:d": { "ed25519:3": "y" } },
        "unsigned": { "z": 1 }, "keys": { "ed25519:1": "k" },
    }));
    assert_eq!(signatures_by(&object, "@a:b"), [("ed25519:1", "x")]);
    assert_eq!(signatures_by(&object, "@e:f"), []);
    assert_eq!(public_key(&object, "ed25519:1"), Some("k"));
    assert_eq!(content(&object), parse(json!({ "keys": { "ed25519:1": "k" } })));
    keep_signatures_by(&mut object, "@c:d");
    let kept = parse(json!({ "@c:d": { "ed25519:3": "y" } }));
    assert_eq!(object["signatures"], CanonicalJsonValue::Object(kept));
    let mut odd = parse(json!({ "signatures": 3 }));
    assert_eq!(signatures_by(&odd, "@a:b"), []);
    keep_signatures_by(&mut odd, "@a:b");
    assert!(odd.is_empty());
}
