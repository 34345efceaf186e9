//! What no honest server sends.

use super::*;

fn refused(text: &str, version: &RoomVersionId) -> bool {
    matches!(Pdu::read(text, &rules(version)), Err(Refused::Malformed(_)))
}

/// Tells whether a PDU goes no further, for its form, its signature or its hash.
fn dropped(text: &str, version: &RoomVersionId, keys: &Servers) -> bool {
    Pdu::read(text, &rules(version)).and_then(|pdu| pdu.check(keys)).is_err()
}

/// Puts a piece of JSON text into the content of a signed message, whose signature stays right.
fn with_content(version: &RoomVersionId, keys: &Servers, inside: &str) -> String {
    let signed = keys.sign(&message(version), version, &["one"]).to_string();
    let changed = signed.replace(r#"{"body":"hi"}"#, &format!(r#"{{"a":{inside}}}"#));
    assert_ne!(changed, signed);
    changed
}

#[test]
fn what_is_no_object_is_refused() {
    for version in SUPPORTED {
        for text in ["", "null", "[]", "7", "\"x\"", "{", "{}", "{}x", "{\"a\":}", "\u{0}"] {
            assert!(refused(text, &version), "{version}: {text}");
        }
    }
}

#[test]
fn depth_bombs_are_refused() {
    let keys = Servers::new(&["one"]);
    for version in SUPPORTED {
        for levels in [99, 10_000] {
            let bomb = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
            assert!(refused(&with_content(&version, &keys, &bomb), &version), "{version}");
        }
        let deep = format!("{}1{}", "[".repeat(98), "]".repeat(98));
        assert!(!refused(&with_content(&version, &keys, &deep), &version), "{version}");
    }
}

#[test]
fn keys_twice_are_refused() {
    let keys = Servers::new(&["one"]);
    for version in SUPPORTED {
        let twice = with_content(&version, &keys, r#"{"b":1,"\u0062":2}"#);
        assert!(refused(&twice, &version), "{version}");
        let signed = keys.sign(&message(&version), &version, &["one"]).to_string();
        let twice = signed.replacen('{', r#"{"type":"m.room.create","#, 1);
        assert!(refused(&twice, &version), "{version}");
    }
}

#[test]
fn enormous_numbers_are_refused_or_kept_as_they_are() {
    let keys = Servers::new(&["one"]);
    let enormous = "9".repeat(400);
    for (number, in_old) in [
        ("9007199254740992", true),
        ("-9007199254740992", true),
        ("123456789012345678901234567890", true),
        ("1.0", true),
        ("1e3", true),
        ("1e400", false),
        ("-1e400", false),
        (enormous.as_str(), false),
        ("NaN", false),
        ("01", false),
    ] {
        for version in SUPPORTED {
            let text = with_content(&version, &keys, number);
            let is_kept = in_old && super::number(&version) < 6;
            assert_eq!(!refused(&text, &version), is_kept, "{version}: {number}");
            if is_kept {
                let rules = rules(&version);
                let pdu = Pdu::read(&text, &rules).unwrap();
                assert!(pdu.claimed().json().contains(&format!("\"a\":{number}}}")));
                // It is not what was signed.
                assert!(pdu.check(&keys).unwrap().is_redacted);
            }
        }
    }
}

#[test]
fn a_float_that_was_signed_passes_where_it_may() {
    let keys = Servers::new(&["one"]);
    for version in &SUPPORTED[..5] {
        // Hash by hand what the library underneath cannot hold.
        let text = with_content(version, &keys, "1.50");
        let mut object: Value = serde_json::from_str(&text.replace("1.50", "\"@\"")).unwrap();
        let fields = object.as_object_mut().unwrap();
        fields.remove("signatures");
        fields.remove("hashes");
        let hashed = object.to_string().replace("\"@\"", "1.50");
        let hash = <sha2::Sha256 as sha2::Digest>::digest(hashed.as_bytes());
        object["hashes"] = json!({ "sha256": Base64::<Standard, _>::new(&hash[..]).encode() });
        let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
        let redaction = version.rules().unwrap().redaction;
        sign_event("one", &keys.pairs[&("one", "1")], &mut object, &redaction).unwrap();
        let text = serde_json::to_string(&object).unwrap().replace("\"@\"", "1.50");
        let rules = rules(version);
        let checked = Pdu::read(&text, &rules).unwrap().check(&keys).unwrap();
        assert!(!checked.is_redacted, "{version}");
        assert_eq!(checked.event.json(), text);
        let respelled = text.replace("1.50", "1.5");
        let checked = Pdu::read(&respelled, &rules).unwrap().check(&keys).unwrap();
        assert!(checked.is_redacted, "{version}: not as it was signed");
    }
}

#[test]
fn the_largest_pdu_passes_and_one_byte_more_does_not() {
    let keys = Servers::new(&["one"]);
    for version in SUPPORTED {
        let sized = |extra: usize| {
            let mut pdu = message(&version);
            pdu["content"]["body"] = json!("x".repeat(extra));
            keys.sign(&pdu, &version, &["one"])
        };
        let room = 65_536 - sized(0).to_string().len();
        let largest = sized(room);
        assert_eq!(largest.to_string().len(), 65_536);
        assert!(!check(&largest, &version, &keys).unwrap().is_redacted, "{version}");
        assert!(refused(&sized(room + 1).to_string(), &version), "{version}");
        let padded = format!("{{{}{}", " ".repeat(400_000), &largest.to_string()[1..]);
        assert!(refused(&padded, &version), "{version}: text is bounded before it is read");
    }
}

#[test]
fn fields_of_another_type_or_too_long_are_refused() {
    let keys = Servers::new(&["one"]);
    let long = |prefix: &str| format!("{prefix}{}:one", "x".repeat(252 - prefix.len() + 1));
    for version in SUPPORTED {
        let signed = keys.sign(&message(&version), &version, &["one"]);
        let mut cases = vec![
            ("type", json!(7)),
            ("type", json!("x".repeat(256))),
            ("type", json!("a\0b")),
            ("sender", json!("a")),
            ("sender", json!("@a")),
            ("sender", json!(long("@"))),
            ("sender", json!(null)),
            ("state_key", json!(7)),
            ("state_key", json!("x".repeat(256))),
            ("state_key", json!("\0")),
            ("room_id", json!("r")),
            ("room_id", json!({})),
            ("room_id", json!(long("!"))),
            ("content", json!([])),
            ("content", json!("x")),
            ("hashes", json!({})),
            ("hashes", json!([])),
            ("signatures", json!([])),
            ("origin_server_ts", json!("1")),
            ("origin_server_ts", json!(-1)),
            ("depth", json!("7")),
            ("depth", json!(-1)),
        ];
        if number(&version) < 3 {
            cases.push(("event_id", json!(long("$"))));
        }
        for (field, value) in cases {
            let mut damaged = signed.clone();
            damaged[field] = value.clone();
            assert!(dropped(&damaged.to_string(), &version, &keys), "{version}: {field} {value}");
        }
        for field in [
            "type",
            "sender",
            "room_id",
            "content",
            "hashes",
            "signatures",
            "origin_server_ts",
            "depth",
            "prev_events",
            "auth_events",
        ] {
            let mut damaged = signed.clone();
            damaged.as_object_mut().unwrap().remove(field);
            assert!(dropped(&damaged.to_string(), &version, &keys), "{version}: no {field}");
        }
    }
}

#[test]
fn thousands_of_signatures_are_not_looked_at() {
    let version = RoomVersionId::V10;
    let keys = Servers::new(&["one"]);
    let mut signed = keys.sign(&message(&version), &version, &["one"]);
    for n in 0..400 {
        signed["signatures"]["one"][format!("ed25519:z{n}")] = json!("x");
    }
    let rules = rules(&version);
    let pdu = Pdu::read(&signed.to_string(), &rules).unwrap();
    assert_eq!(pdu.required_keys()[0].key_ids.len(), 16);
    let asked = std::cell::Cell::new(0);
    let counting = |server: &ServerName, id: &str| {
        asked.set(asked.get() + 1);
        keys.public_key(server, id)
    };
    pdu.check(&counting).unwrap();
    assert_eq!(asked.get(), 16);
}

/// A key of small order "signs" everything for whoever does not check strictly.
#[test]
fn a_key_of_small_order_signs_nothing() {
    let version = RoomVersionId::V11;
    let keys = Servers::new(&["one"]);
    let mut signed = keys.sign(&message(&version), &version, &["one"]);
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut signature = [0; 64];
    signature[0] = 1;
    signed["signatures"]["one"]["ed25519:1"] =
        json!(Base64::<Standard, _>::new(signature).encode());
    let small = |_: &ServerName, _: &str| Some(neutral);
    assert!(matches!(check(&signed, &version, &small), Err(Refused::WrongSignature { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done to a PDU on the way: nothing of it is believed but what was signed.
    #[test]
    fn no_damage_is_believed(at in any::<prop::sample::Index>(), byte in any::<u8>(), version in 0..12_usize) {
        let version = &SUPPORTED[version];
        let keys = Servers::new(&["one"]);
        let signed = keys.sign(&message(version), version, &["one"]).to_string();
        let mut bytes = signed.clone().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let rules = rules(version);
        let checked = Pdu::read(&text, &rules).and_then(|pdu| pdu.check(&keys));
        if let Ok(checked) = checked && !checked.is_redacted {
            let (was, is): (Value, Value) =
                (serde_json::from_str(&signed).unwrap(), serde_json::from_str(checked.event.json()).unwrap());
            for field in ["type", "sender", "room_id", "content", "depth", "hashes", "origin_server_ts"] {
                prop_assert_eq!(&was[field], &is[field]);
            }
        }
    }

    #[test]
    fn reading_is_total(text in ".{0,300}", version in 0..12_usize) {
        let _ = Pdu::read(&text, &rules(&SUPPORTED[version]));
    }
}
