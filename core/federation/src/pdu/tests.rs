//! PDUs as peers make them, and as those make them who want to be believed.

use std::collections::BTreeMap;

use colonnade_model::{
    ruma::{
        CanonicalJsonObject, OwnedServerName, RoomVersionId, ServerName,
        serde::{Base64, base64::Standard},
        signatures::{Ed25519KeyPair, add_content_hash_to_event, sign_event},
    },
    versions::SUPPORTED,
};
use proptest::prelude::*;
use serde_json::{Value, json, value::to_raw_value};

use super::*;

mod hostile;

/// The keys of the servers of a test, by server and id.
#[derive(Default)]
struct Servers {
    pairs: BTreeMap<(&'static str, &'static str), Ed25519KeyPair>,
}

impl PublicKeys for Servers {
    fn public_key(&self, server: &ServerName, key_id: &str) -> Option<[u8; 32]> {
        let known = self.pairs.iter().find(|((name, version), _)| {
            *name == server.as_str() && key_id.strip_prefix("ed25519:") == Some(version)
        });
        known.map(|(_, pair)| pair.public_key())
    }
}

impl Servers {
    fn new(names: &[&'static str]) -> Self {
        let mut servers = Self::default();
        for name in names {
            servers.add(name, "1");
        }
        servers
    }

    fn add(&mut self, name: &'static str, version: &'static str) {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, version.to_owned()).unwrap();
        self.pairs.insert((name, version), pair);
    }

    /// Hashes a PDU and signs it for these servers with all their keys.
    fn sign(&self, pdu: &Value, version: &RoomVersionId, signers: &[&str]) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(pdu.clone()).unwrap();
        add_content_hash_to_event(&mut object).unwrap();
        object.insert("signatures".to_owned(), CanonicalJsonObject::new().into());
        let redaction = version.rules().unwrap().redaction;
        for ((name, _), pair) in &self.pairs {
            if signers.contains(name) {
                sign_event(name, pair, &mut object, &redaction).unwrap();
            }
        }
        serde_json::to_value(object).unwrap()
    }
}

fn rules(version: &RoomVersionId) -> RoomVersionRules {
    version.rules().unwrap()
}

fn number(version: &RoomVersionId) -> u32 {
    version.as_str().parse().unwrap()
}

/// A message of `@a:one` that is not signed yet.
fn message(version: &RoomVersionId) -> Value {
    let mut pdu = json!({
        "auth_events": [], "content": { "body": "hi" }, "depth": 7, "origin_server_ts": 1000,
        "prev_events": [], "room_id": "!r:one", "sender": "@a:one", "type": "m.room.message",
    });
    if number(version) < 3 {
        pdu["event_id"] = json!("$id:one");
    }
    pdu
}

/// A membership of `@b:two` by `@a:one`, or by itself.
fn member(version: &RoomVersionId, sender: &str, content: Value) -> Value {
    let mut pdu = message(version);
    pdu["type"] = json!("m.room.member");
    pdu["sender"] = json!(sender);
    pdu["state_key"] = json!("@b:two");
    pdu["content"] = content;
    pdu
}

fn check(
    pdu: &Value,
    version: &RoomVersionId,
    keys: &impl PublicKeys,
) -> Result<CheckedPdu, Refused> {
    Pdu::read(&pdu.to_string(), &rules(version))?.check(keys)
}

fn server(name: &str) -> OwnedServerName {
    name.try_into().unwrap()
}

/// The servers a PDU of each version must be signed by.
fn required(pdu: &Value, version: &RoomVersionId, keys: &Servers) -> Vec<String> {
    let signed = keys.sign(pdu, version, &["one", "two", "three", "four"]);
    let rules = rules(version);
    let pdu = Pdu::read(&signed.to_string(), &rules).unwrap();
    pdu.required_keys().iter().map(|keys| keys.server.to_string()).collect()
}

#[test]
fn a_signed_pdu_of_every_version_passes() {
    let keys = Servers::new(&["one"]);
    for version in SUPPORTED {
        let signed = keys.sign(&message(&version), &version, &["one"]);
        let rules = rules(&version);
        let mut text = signed.clone();
        text["unsigned"] = json!({ "age": 5 });
        let pdu = Pdu::read(&text.to_string(), &rules).unwrap();
        assert_eq!(pdu.claimed().sender(), "@a:one");
        let id = pdu.event_id().to_owned();
        assert_eq!(id == "$id:one", number(&version) < 3, "{version}");
        let [required] = pdu.required_keys() else { panic!("{version}") };
        assert_eq!(
            (required.server.as_str(), &required.key_ids[..]),
            ("one", &["ed25519:1".to_owned()][..])
        );
        assert_eq!(u64::from(required.origin_server_ts.0), 1000);
        assert_eq!(required.is_validity_enforced, number(&version) >= 5, "{version}");
        let checked = pdu.check(&keys).unwrap();
        assert!(!checked.is_redacted, "{version}");
        assert_eq!(checked.event.event_id(), id);
        assert_eq!(checked.event.json(), signed.to_string(), "without `unsigned`");
    }
}

#[test]
fn a_pdu_is_signed_by_the_senders_server() {
    let keys = Servers::new(&["one", "two"]);
    for version in SUPPORTED {
        let not_signed = keys.sign(&message(&version), &version, &["two"]);
        assert_eq!(
            check(&not_signed, &version, &keys).unwrap_err(),
            Refused::NotSigned(server("one"))
        );
        let nowhere = keys.sign(&message(&version), &version, &[]);
        assert_eq!(
            check(&nowhere, &version, &keys).unwrap_err(),
            Refused::NotSigned(server("one"))
        );

        let signed = keys.sign(&message(&version), &version, &["one", "two"]);
        let stranger = Servers::new(&["one"]);
        let wrong =
            Refused::WrongSignature { server: server("one"), key_id: "ed25519:1".to_owned() };
        assert_eq!(check(&signed, &version, &stranger).unwrap_err(), wrong);
        let unknown = Servers::new(&["two"]);
        assert_eq!(
            check(&signed, &version, &unknown).unwrap_err(),
            Refused::KeyUnknown(server("one"))
        );
        // Whoever need not sign may have signed wrongly.
        let mut other = signed.clone();
        other["signatures"]["two"]["ed25519:1"] = json!("nonsense");
        check(&other, &version, &keys).unwrap();
        for nonsense in ["", "nonsense", "!", &"A".repeat(86)] {
            let mut damaged = signed.clone();
            damaged["signatures"]["one"]["ed25519:1"] = json!(nonsense);
            assert_eq!(check(&damaged, &version, &keys).unwrap_err(), wrong, "{nonsense}");
        }
    }
}

#[test]
fn every_known_key_must_have_signed_and_others_are_skipped() {
    let version = RoomVersionId::V11;
    let mut keys = Servers::new(&["one"]);
    keys.add("one", "2");
    let mut signed = keys.sign(&message(&version), &version, &["one"]);
    check(&signed, &version, &keys).unwrap();
    signed["signatures"]["one"]["ed25519:unknown"] = json!("x");
    signed["signatures"]["one"]["rsa:1"] = json!("x");
    check(&signed, &version, &keys).unwrap();
    let second = signed["signatures"]["one"]["ed25519:2"].clone();
    signed["signatures"]["one"]["ed25519:1"] = second;
    let refused = check(&signed, &version, &keys).unwrap_err();
    let key_id = "ed25519:1".to_owned();
    assert_eq!(refused, Refused::WrongSignature { server: server("one"), key_id });
    // The second key alone does, when the first has expired.
    let second = |_: &ServerName, id: &str| {
        (id == "ed25519:2").then(|| keys.pairs[&("one", "2")].public_key())
    };
    check(&signed, &version, &second).unwrap();
    // Another algorithm is no signature.
    signed["signatures"]["one"] = json!({ "rsa:1": "x" });
    assert_eq!(check(&signed, &version, &keys).unwrap_err(), Refused::NotSigned(server("one")));
}

#[test]
fn what_was_changed_on_the_way_is_redacted_or_refused() {
    let keys = Servers::new(&["one"]);
    for version in SUPPORTED {
        let signed = keys.sign(&message(&version), &version, &["one"]);
        let id = Pdu::read(&signed.to_string(), &rules(&version)).unwrap().event_id().to_owned();
        let mut changed = signed.clone();
        changed["content"]["body"] = json!("something else");
        let checked = check(&changed, &version, &keys).unwrap();
        assert!(checked.is_redacted, "{version}");
        assert_eq!(checked.event.content().get(), "{}");
        assert_eq!(checked.event.event_id(), id);
        // A redacted copy is taken as it is.
        let again: Value = serde_json::from_str(checked.event.json()).unwrap();
        assert!(check(&again, &version, &keys).unwrap().is_redacted);
        for (field, value) in [
            ("type", json!("m.room.topic")),
            ("sender", json!("@b:one")),
            ("depth", json!(8)),
            ("origin_server_ts", json!(1001)),
            ("state_key", json!("")),
            ("hashes", json!({ "sha256": "x" })),
        ] {
            let mut changed = signed.clone();
            changed[field] = value;
            let refused = check(&changed, &version, &keys);
            assert!(matches!(refused, Err(Refused::WrongSignature { .. })), "{version}: {field}");
        }
    }
}

#[test]
fn the_server_of_a_drawn_id_signs_too() {
    let keys = Servers::new(&["one", "two"]);
    for version in SUPPORTED {
        let mut pdu = message(&version);
        if number(&version) >= 3 {
            assert_eq!(required(&pdu, &version, &keys), ["one"], "{version}");
            continue;
        }
        pdu["event_id"] = json!("$id:two");
        assert_eq!(required(&pdu, &version, &keys), ["one", "two"], "{version}");
        let forged = keys.sign(&pdu, &version, &["one"]);
        assert_eq!(check(&forged, &version, &keys).unwrap_err(), Refused::NotSigned(server("two")));
        let both = keys.sign(&pdu, &version, &["one", "two"]);
        check(&both, &version, &keys).unwrap();
    }
}

#[test]
fn the_server_that_lets_somebody_in_signs_too() {
    let keys = Servers::new(&["one", "two", "three"]);
    let by = json!("@host:three");
    for version in SUPPORTED {
        let joining = json!({ "membership": "join", "join_authorised_via_users_server": by });
        let mut expected = vec!["two"];
        if number(&version) < 3 {
            expected.insert(0, "one");
        }
        let others = expected.clone();
        if number(&version) >= 8 {
            expected.insert(0, "three");
        }
        let join = member(&version, "@b:two", joining.clone());
        assert_eq!(required(&join, &version, &keys), expected, "{version}");
        if number(&version) >= 8 {
            let alone = keys.sign(&join, &version, &["two"]);
            let refused = check(&alone, &version, &keys).unwrap_err();
            assert_eq!(refused, Refused::NotSigned(server("three")));
            check(&keys.sign(&join, &version, &["two", "three"]), &version, &keys).unwrap();
        }
        // The rule is one of all memberships.
        let mut leave = joining.clone();
        leave["membership"] = json!("leave");
        assert_eq!(required(&member(&version, "@b:two", leave), &version, &keys), expected);
        let mut talk = member(&version, "@b:two", joining);
        talk["type"] = json!("m.room.message");
        assert_eq!(required(&talk, &version, &keys), others);
        let nobody = json!({ "membership": "join", "join_authorised_via_users_server": 7 });
        let nobody = keys.sign(&member(&version, "@b:two", nobody), &version, &expected);
        let looked = check(&nobody, &version, &keys);
        match number(&version) {
            ..8 => drop(looked.unwrap()),
            _ => assert!(matches!(looked, Err(Refused::Malformed(_))), "{version}"),
        }
    }
}

#[test]
fn an_invite_by_a_third_party_id_needs_no_signature_of_its_sender() {
    let keys = Servers::new(&["one", "two"]);
    for version in SUPPORTED {
        let none: &[&str] = if number(&version) < 3 { &["one"] } else { &[] };
        let invite = json!({ "membership": "invite", "third_party_invite": { "signed": {} } });
        let mut pdu = member(&version, "@a:two", invite);
        assert_eq!(required(&pdu, &version, &keys), none, "{version}");
        check(&keys.sign(&pdu, &version, none), &version, &keys).unwrap();
        pdu["content"]["membership"] = json!("join");
        assert!(required(&pdu, &version, &keys).contains(&"two".to_owned()), "{version}");
        pdu["content"] = json!({ "membership": "invite" });
        assert!(required(&pdu, &version, &keys).contains(&"two".to_owned()), "{version}");
        pdu["content"] = json!({ "membership": "invite", "third_party_invite": {} });
        pdu["type"] = json!("m.room.message");
        assert!(required(&pdu, &version, &keys).contains(&"two".to_owned()), "{version}");
    }
}

#[test]
fn the_room_is_known_before_the_version() {
    let of = |value: Value| room_of(&to_raw_value(&value).unwrap()).map(|room| room.to_string());
    assert_eq!(of(json!({ "room_id": "!r:one", "x": 1 })).as_deref(), Some("!r:one"));
    assert_eq!(of(json!({ "room_id": "!hash" })).as_deref(), Some("!hash"));
    for none in [json!({}), json!({ "room_id": 7 }), json!({ "room_id": "r" }), json!([]), json!(1)]
    {
        assert_eq!(of(none), None);
    }
}
