//! What differs between room versions: ids, references, numbers, what redaction keeps.

use std::collections::HashSet;

use colonnade_model::ruma::{
    SigningKeyAlgorithm,
    serde::{
        Base64,
        base64::{Standard, UrlSafe},
    },
    signatures::verify_canonical_json_bytes,
};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::event::{Malformed, malformed::DEPTH_MAX};

fn parse(json: &str, rules: &RoomVersionRules) -> Result<Event, Malformed> {
    Event::parse(&EventObject::parse(json, rules)?, rules)
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn rules(version: RoomVersionId) -> RoomVersionRules {
    version.rules().unwrap()
}

#[test]
fn versions_1_and_2_draw_ids_and_hash_what_they_name() {
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let rules = rules(version);
        let before = sign(draft("m.room.message", json!({ "body": "one" })), &rules).unwrap();
        assert_eq!(before.event_id(), "$opaque:one.example");
        let mut next = draft("m.room.message", json!({ "body": "two" }));
        next.prev_events = vec![before.reference(&rules).unwrap()];
        next.opaque_id = Some("other".to_owned());
        let next = sign(next, &rules).unwrap();
        assert_eq!(next.prev_events(), [before.event_id()]);
        let json: Value = serde_json::from_str(next.json()).unwrap();
        assert_eq!(json["event_id"], "$other:one.example");
        // The reference hash by hand: what redaction leaves, without signatures.
        let mut left: Value = serde_json::from_str(before.json()).unwrap();
        left["content"] = json!({});
        left.as_object_mut().unwrap().remove("signatures");
        let sha256 = Base64::<Standard, _>::new(hash(&left.to_string())).encode();
        assert_eq!(json["prev_events"], json!([["$opaque:one.example", { "sha256": sha256 }]]));

        let mut nameless = draft("m.room.message", json!({}));
        nameless.opaque_id = None;
        assert!(matches!(sign(nameless, &rules), Err(DraftError::Malformed(_))));
        let mut unhashed = draft("m.room.message", json!({}));
        unhashed.prev_events[0].sha256 = None;
        assert!(matches!(sign(unhashed, &rules), Err(DraftError::Malformed(_))));
    }
}

#[test]
fn drawn_ids_differ_and_later_versions_draw_none() {
    let random = colonnade_model::random::SystemRandom;
    for version in SUPPORTED {
        let drawn = Draft::opaque_id(&rules(version.clone()), &random);
        assert_eq!(drawn.is_some(), ["1", "2"].contains(&version.as_str()), "{version}");
    }
    let drawn = (0..100).map(|_| Draft::opaque_id(&rules(RoomVersionId::V1), &random));
    assert_eq!(drawn.collect::<HashSet<_>>().len(), 100);
}

#[test]
fn ids_are_hashes_in_the_alphabet_of_their_version() {
    for version in &SUPPORTED[2..] {
        let rules = rules(version.clone());
        let mut letters = HashSet::new();
        for n in 0..64 {
            let event = sign(draft("m.room.message", json!({ "n": n })), &rules).unwrap();
            let id = event.event_id().as_str().strip_prefix('$').unwrap();
            let bytes = match version.as_str() {
                "3" => Base64::<Standard>::parse(id).unwrap().into_inner(),
                _ => Base64::<UrlSafe>::parse(id).unwrap().into_inner(),
            };
            assert_eq!(bytes.len(), 32);
            letters.extend(id.chars());
        }
        let is_plain = letters.contains(&'/') || letters.contains(&'+');
        assert_eq!(is_plain, *version == RoomVersionId::V3, "{version}");
    }
}

/// The specification's own event (Matrix v1.19, appendices, §Cryptographic Test Vectors).
#[test]
fn the_specifications_signed_event_is_right() {
    let json = r#"{
        "content": { "body": "Here is the message content" },
        "event_id": "$0:domain",
        "hashes": { "sha256": "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g" },
        "origin": "domain", "origin_server_ts": 1000000, "type": "m.room.message",
        "room_id": "!r:domain", "sender": "@u:domain",
        "signatures": { "domain": { "ed25519:1":
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"
        } },
        "unsigned": { "age_ts": 1000000 }
    }"#;
    let rules = rules(RoomVersionId::V1);
    let object = EventObject::parse(json, &rules).unwrap();
    assert!(object.has_content_hash().unwrap());
    assert_eq!(object.event_id(&rules).unwrap(), "$0:domain");
    let seed: Base64 = Base64::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    let prefix = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    let key = Ed25519KeyPair::from_der(&[&prefix, seed.as_bytes()].concat(), "1".to_owned());
    let (_, signature) = object.signatures("domain").next().unwrap();
    let signature: Base64 = Base64::parse(signature).unwrap();
    let signed = object.signed_json(&rules).unwrap();
    verify_canonical_json_bytes(
        &SigningKeyAlgorithm::Ed25519,
        &key.unwrap().public_key(),
        signature.as_bytes(),
        signed.as_bytes(),
    )
    .unwrap();
    let redacted = object.redacted(&rules).unwrap();
    assert!(!redacted.has_content_hash().unwrap(), "the content is gone");
    assert_eq!(redacted.signed_json(&rules).unwrap(), signed);
}

/// Power levels as a peer might write them in room versions 3 to 5, all of which redaction keeps.
fn levels_with_floats() -> (String, [u8; 32]) {
    let before = r#"{"auth_events":[],"content":{"ban":1e1,"kick":-0.5,"users":{"@a:two.example":50.57,"@b:two.example":1E30}},"depth":9007199254740993,"#;
    let after = r#""origin_server_ts":1,"prev_events":[],"room_id":"!r:two.example","sender":"@a:two.example","state_key":"","type":"m.room.power_levels"}"#;
    let content_hash = Base64::<Standard, _>::new(hash(&format!("{before}{after}"))).encode();
    let hashes = format!(r#""hashes":{{"sha256":"{content_hash}"}},"#);
    let reference = hash(&format!("{before}{hashes}{after}"));
    let signed = r#""signatures":{"two.example":{"ed25519:1":"x"}},"state_key""#;
    let after = after.replace(r#""state_key""#, signed);
    (format!("{before}{hashes}{after}"), reference)
}

#[test]
fn numbers_of_old_versions_keep_their_spelling() {
    let (json, reference) = levels_with_floats();
    let padded = json.replace(':', " : ").replace("@a : ", "@a:").replace("@b : ", "@b:");
    let padded = padded.replace("!r : ", "!r:").replace("ed25519 : ", "ed25519:");
    for version in [RoomVersionId::V3, RoomVersionId::V4, RoomVersionId::V5] {
        let rules = rules(version.clone());
        let object = EventObject::parse(&padded, &rules).unwrap();
        assert!(object.has_content_hash().unwrap(), "{version}");
        let event = Event::parse(&object, &rules).unwrap();
        let id = match version.as_str() {
            "3" => Base64::<Standard, _>::new(reference).encode(),
            _ => Base64::<UrlSafe, _>::new(reference).encode(),
        };
        assert_eq!(event.event_id().as_str(), format!("${id}"));
        assert_eq!(event.json(), json);
        assert_eq!(event.depth(), 9_007_199_254_740_993);
        let levels = event.content_for_rules().get();
        assert_eq!(
            levels,
            r#"{"ban":10,"kick":0,"users":{"@a:two.example":50,"@b:two.example":9007199254740991}}"#
        );
        // As it is stored, redacted, and parsed again.
        let stored = event.json().as_bytes().to_vec();
        let stored = Event::from_stored(stored, event.event_id().to_owned(), &rules, false);
        let redacted = stored.unwrap().redacted(&rules).unwrap();
        assert_eq!(redacted.json(), json);
        assert_eq!(parse(redacted.json(), &rules).unwrap().event_id(), event.event_id());
    }
    for version in &SUPPORTED[5..] {
        let refused = EventObject::parse(&json, &rules(version.clone()));
        assert!(refused.is_err(), "{version} enforces canonical JSON");
    }
}

#[test]
fn a_number_is_no_string_of_an_event() {
    let rules = rules(RoomVersionId::V5);
    let (json, _) = levels_with_floats();
    for (field, number) in [
        (r#""type":"m.room.power_levels""#, r#""type":1.5"#),
        (r#""state_key":"""#, r#""state_key":1.5"#),
        (r#""sender":"@a:two.example""#, r#""sender":1.5"#),
        (r#""room_id":"!r:two.example""#, r#""room_id":1.5"#),
        (r#""prev_events":[]"#, r#""prev_events":[1.5]"#),
        (r#""auth_events":[]"#, r#""auth_events":1.5"#),
        (r#""origin_server_ts":1"#, r#""origin_server_ts":1.5"#),
        (r#""depth":9007199254740993"#, r#""depth":5.0"#),
    ] {
        let damaged = json.replace(field, number);
        assert_ne!(damaged, json, "{field}");
        assert!(parse(&damaged, &rules).is_err(), "{field}");
    }
}

#[test]
fn depth_bombs_are_bounded_by_the_version() {
    let depths = [
        ("0", true, true),
        ("9007199254740991", true, true),
        ("9007199254740992", true, false),
        ("9223372036854775807", true, false),
        ("9223372036854775808", false, false),
        ("18446744073709551616", false, false),
        ("1e3", false, false),
        ("-1", false, false),
        ("-0", true, false),
    ];
    for version in SUPPORTED {
        let rules = rules(version.clone());
        let is_old = !rules.authorization.strict_canonical_json;
        let event = sign(draft("m.room.message", json!({})), &rules).unwrap();
        for (depth, in_old, in_new) in depths {
            let deep = event.json().replace(r#""depth":7"#, &format!(r#""depth":{depth}"#));
            let is_allowed = if is_old { in_old } else { in_new };
            assert_eq!(parse(&deep, &rules).is_ok(), is_allowed, "{version}: {depth}");
        }
        // An event after one of the deepest is no deeper than canonical JSON can say.
        assert_eq!(depth_after([i64::MAX.unsigned_abs()]), DEPTH_MAX);
    }
}

#[test]
fn references_are_written_as_the_version_says() {
    for version in SUPPORTED {
        let rules = rules(version.clone());
        let has_pairs = ["1", "2"].contains(&version.as_str());
        let event = sign(draft("m.room.message", json!({})), &rules).unwrap();
        let json: Value = serde_json::from_str(event.json()).unwrap();
        for (list, fits_pairs, fits_ids) in [
            (json!([]), true, true),
            (json!([["$a:x", {}]]), true, false),
            (json!([["$a:x", { "sha256": "b" }], ["$c:x", {}]]), true, false),
            (json!([["$a:x"]]), false, false),
            (json!([["$a:x", {}, 1]]), false, false),
            (json!([["$a:x", "b"]]), false, false),
            (json!([["a:x", {}]]), false, false),
            (json!(["$a"]), false, true),
            (json!(["a"]), false, false),
            (json!([format!("${}", "a".repeat(254))]), false, true),
            (json!([format!("${}", "a".repeat(255))]), false, false),
            (json!(["$a\0"]), false, false),
            (json!([7]), false, false),
            (json!({}), false, false),
            (json!("$a"), false, false),
        ] {
            for field in ["prev_events", "auth_events"] {
                let mut damaged = json.clone();
                damaged[field] = list.clone();
                let is_ok = parse(&damaged.to_string(), &rules).is_ok();
                let fits = if has_pairs { fits_pairs } else { fits_ids };
                assert_eq!(is_ok, fits, "{version}: {field} {list}");
            }
        }
        let more = |n: usize, field: &str| {
            let mut crowded = json.clone();
            let one = if has_pairs { json!(["$a:x", {}]) } else { json!("$a") };
            crowded[field] = json!(vec![one; n]);
            parse(&crowded.to_string(), &rules).is_ok()
        };
        assert!(more(20, "prev_events") && !more(21, "prev_events"), "{version}");
        assert!(more(10, "auth_events") && !more(11, "auth_events"), "{version}");
    }
}

#[test]
fn an_event_that_follows_itself_is_malformed() {
    for version in [RoomVersionId::V1, RoomVersionId::V2] {
        let rules = rules(version);
        let event = sign(draft("m.room.message", json!({})), &rules).unwrap();
        for field in ["prev_events", "auth_events"] {
            let mut looped: Value = serde_json::from_str(event.json()).unwrap();
            looped[field] = json!([["$opaque:one.example", {}]]);
            assert!(parse(&looped.to_string(), &rules).is_err(), "{field}");
        }
    }
}

#[test]
fn an_id_of_its_own_names_a_server() {
    let rules = rules(RoomVersionId::V2);
    let event = sign(draft("m.room.message", json!({})), &rules).unwrap();
    for id in [json!("$opaque"), json!("opaque:one.example"), json!(7), Value::Null, json!("$a:")] {
        let mut damaged: Value = serde_json::from_str(event.json()).unwrap();
        damaged["event_id"] = id.clone();
        assert!(parse(&damaged.to_string(), &rules).is_err(), "{id}");
    }
}

/// Matrix v1.19, rooms, §Redactions of every version.
#[test]
fn redaction_keeps_what_the_version_says() {
    // Event type, content key, from which version on and up to which it is kept.
    let kept = [
        ("m.room.member", "membership", 1, 12),
        ("m.room.member", "join_authorised_via_users_server", 9, 12),
        ("m.room.member", "displayname", 0, 0),
        ("m.room.create", "creator", 1, 12),
        ("m.room.create", "m.federate", 11, 12),
        ("m.room.join_rules", "join_rule", 1, 12),
        ("m.room.join_rules", "allow", 8, 12),
        ("m.room.power_levels", "ban", 1, 12),
        ("m.room.power_levels", "events", 1, 12),
        ("m.room.power_levels", "events_default", 1, 12),
        ("m.room.power_levels", "kick", 1, 12),
        ("m.room.power_levels", "redact", 1, 12),
        ("m.room.power_levels", "state_default", 1, 12),
        ("m.room.power_levels", "users", 1, 12),
        ("m.room.power_levels", "users_default", 1, 12),
        ("m.room.power_levels", "invite", 11, 12),
        ("m.room.power_levels", "notifications", 0, 0),
        ("m.room.aliases", "aliases", 1, 5),
        ("m.room.history_visibility", "history_visibility", 1, 12),
        ("m.room.redaction", "redacts", 11, 12),
        ("m.room.message", "body", 0, 0),
    ];
    for version in SUPPORTED {
        let rules = rules(version.clone());
        let number: u32 = version.as_str().parse().unwrap();
        for (kind, key, first, last) in kept {
            let mut draft = draft(kind, json!({ key: "x" }));
            if kind == "m.room.create" && !rules.event_format.require_room_create_room_id {
                draft.room_id = None;
            }
            let event = sign(draft, &rules).unwrap();
            let content: Value = event.redacted(&rules).unwrap().content_as().unwrap();
            let is_kept = (first..=last).contains(&number);
            assert_eq!(content.get(key).is_some(), is_kept, "{version}: {kind} {key}");
        }
        let mut event: Value =
            serde_json::from_str(sign(draft("m.x", json!({})), &rules).unwrap().json()).unwrap();
        for key in ["origin", "membership", "prev_state", "unknown", "redacts"] {
            event[key] = json!("x");
        }
        let object = EventObject::parse(&event.to_string(), &rules).unwrap();
        let left: Value =
            serde_json::from_str(&object.redacted(&rules).unwrap().json().unwrap()).unwrap();
        for key in ["origin", "membership", "prev_state"] {
            assert_eq!(left.get(key).is_some(), number < 11, "{version}: {key}");
        }
        assert!(left.get("unknown").is_none() && left.get("redacts").is_none(), "{version}");
    }
}
