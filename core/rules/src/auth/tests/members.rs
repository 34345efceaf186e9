//! Rules that differ between room versions: third-party invites, restricted joins, knocks, aliases, levels,
//! redactions.

use std::sync::Arc;

use colonnade_model::{
    ruma::{
        CanonicalJsonObject,
        serde::{Base64, base64::Standard},
        signatures::{Ed25519KeyPair, sign_json},
    },
    versions::SUPPORTED,
};
use serde_json::Value;

use super::*;
use crate::event::Event;

const GUEST: &str = "@guest:one.example";

fn number(version: &RoomVersionId) -> u32 {
    version.as_str().parse().unwrap()
}

fn member(
    room: &mut Room,
    state: &StateIds,
    sender: &str,
    target: &str,
    content: Value,
) -> Arc<Event> {
    room.make(state, 50, sender, "m.room.member", Some(target), content)
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "0".to_owned()).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> String {
    Base64::<Standard, _>::new(pair.public_key()).encode()
}

/// What an identity server signs.
fn signed(pair: &Ed25519KeyPair, mxid: &str, token: &str) -> Value {
    let object = json!({ "mxid": mxid, "token": token });
    let mut object: CanonicalJsonObject = serde_json::from_value(object).unwrap();
    sign_json("id.example", pair, &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

#[test]
fn a_third_party_invite_needs_a_signature_by_its_key() {
    for version in SUPPORTED {
        let (mut room, mut state) = Room::new(version.clone());
        room.join(&mut state, 5, "bob");
        let (key_pair, second, stranger) = (pair(), pair(), pair());
        let keys = json!({
            "display_name": "guest", "public_key": public(&key_pair),
            "public_keys": [{ "public_key": public(&second) }],
        });
        room.add(&mut state, 6, "alice", "m.room.third_party_invite", Some("token"), keys);
        let mut banned = state.clone();
        let ban = json!({ "membership": "ban" });
        room.add(&mut banned, 7, "alice", "m.room.member", Some(GUEST), ban);
        let mut check = |state: &StateIds, sender: &str, signed: Value| {
            let content = json!({
                "membership": "invite",
                "third_party_invite": { "display_name": "guest", "signed": signed },
            });
            let event = member(&mut room, state, sender, GUEST, content);
            allowed(&room, state, &event)
        };
        assert!(check(&state, "alice", signed(&key_pair, GUEST, "token")), "{version}");
        assert!(check(&state, "alice", signed(&second, GUEST, "token")), "{version}");
        assert!(!check(&state, "alice", signed(&stranger, GUEST, "token")), "{version}");
        assert!(!check(&state, "alice", signed(&key_pair, GUEST, "other")), "{version}");
        assert!(!check(&state, "alice", signed(&key_pair, "@x:one.example", "token")), "{version}");
        assert!(!check(&state, "bob", signed(&key_pair, GUEST, "token")), "not who invited");
        assert!(!check(&banned, "alice", signed(&key_pair, GUEST, "token")), "{version}");
        let mut changed = signed(&key_pair, GUEST, "token");
        changed["extra"] = json!(1);
        assert!(!check(&state, "alice", changed), "{version}: not what was signed");
        let mut unsigned = signed(&key_pair, GUEST, "token");
        unsigned["signatures"] = json!({});
        assert!(!check(&state, "alice", unsigned), "{version}");
    }
}

#[test]
fn a_third_party_invite_names_the_event_that_allows_it() {
    let invite =
        |third_party: Value| json!({ "membership": "invite", "third_party_invite": third_party });
    for version in SUPPORTED {
        let rules = version.rules().unwrap().authorization;
        let keys = |content: Value| {
            let raw = serde_json::value::to_raw_value(&content).unwrap();
            let alice = user("alice");
            state_keys_to_check(&"m.room.member".into(), &alice, Some(GUEST), &raw, &rules)
        };
        let named = keys(invite(json!({ "signed": { "mxid": GUEST, "token": "t" } }))).unwrap();
        assert!(named.contains(&key("m.room.third_party_invite", "t")), "{version}");
        for malformed in [json!({}), json!({ "signed": {} }), json!({ "signed": { "token": 7 } })] {
            assert!(keys(invite(malformed.clone())).is_err(), "{version}: {malformed}");
        }
    }
}

#[test]
fn who_lets_somebody_in_must_be_there_and_may_invite() {
    for version in SUPPORTED {
        for (rule, first) in [("restricted", 8), ("knock_restricted", 10)] {
            let (mut room, mut state) = Room::new(version.clone());
            room.join(&mut state, 5, "bob");
            let mut levels = json!({ "users": {}, "invite": 50 });
            if number(&version) < 12 {
                levels["users"]["@alice:one.example"] = json!(100);
            }
            room.add(&mut state, 6, "alice", "m.room.power_levels", Some(""), levels);
            let rule = json!({ "join_rule": rule, "allow": [] });
            room.add(&mut state, 7, "alice", "m.room.join_rules", Some(""), rule);
            let mut invited = state.clone();
            let invite = json!({ "membership": "invite" });
            room.add(&mut invited, 8, "alice", "m.room.member", Some(GUEST), invite);
            let is_known = number(&version) >= first;
            let mut check = |state: &StateIds, by: Option<&str>| {
                let mut content = json!({ "membership": "join" });
                if let Some(by) = by {
                    content["join_authorised_via_users_server"] = json!(by);
                }
                let event = member(&mut room, state, "guest", GUEST, content);
                let rules = &room.rules.authorization;
                check_by_auth_events(&event, rules, |id| room.events.get(id).cloned()).unwrap();
                allowed(&room, state, &event)
            };
            assert_eq!(check(&state, Some("@alice:one.example")), is_known, "{version}");
            assert!(!check(&state, Some("@bob:one.example")), "{version}: may not invite");
            assert!(!check(&state, Some("@carol:one.example")), "{version}: is not there");
            assert!(!check(&state, None), "{version}");
            // Before the rule was known it let nobody in, whoever was invited.
            assert_eq!(check(&invited, None), is_known, "{version}");
        }
    }
}

#[test]
fn knocks_are_known_from_version_7_on() {
    for version in SUPPORTED {
        for (rule, first) in [("knock", 7), ("knock_restricted", 10), ("invite", 99)] {
            let (mut room, mut state) = Room::new(version.clone());
            let rule = json!({ "join_rule": rule });
            room.add(&mut state, 6, "alice", "m.room.join_rules", Some(""), rule);
            let knock = json!({ "membership": "knock" });
            let event = member(&mut room, &state, "guest", GUEST, knock.clone());
            assert_eq!(allowed(&room, &state, &event), number(&version) >= first, "{version}");
            let event = member(&mut room, &state, "alice", GUEST, knock);
            assert!(!allowed(&room, &state, &event), "{version}: nobody knocks for others");
        }
    }
}

#[test]
fn aliases_are_a_servers_own_up_to_version_5() {
    for version in SUPPORTED {
        let (mut room, mut state) = Room::new(version.clone());
        room.join(&mut state, 5, "carol");
        let is_old = number(&version) < 6;
        let mut check = |sender: &str, state_key: &str| {
            let content = json!({ "aliases": [] });
            let event = room.make(&state, 6, sender, "m.room.aliases", Some(state_key), content);
            allowed(&room, &state, &event)
        };
        assert_eq!(check("carol", "one.example"), is_old, "{version}: who has no level");
        assert_eq!(check("stranger", "one.example"), is_old, "{version}: who is not there");
        assert_eq!(check("alice", "two.example"), !is_old, "{version}");
    }
}

#[test]
fn levels_may_be_text_up_to_version_9_and_floats_up_to_version_5() {
    for version in SUPPORTED {
        let (mut room, state) = Room::new(version.clone());
        let mut check = |level: Value| {
            let mut levels = json!({ "users": { "@bob:one.example": level } });
            if number(&version) < 12 {
                levels["users"]["@alice:one.example"] = json!(100);
            }
            let event = room.make(&state, 6, "alice", "m.room.power_levels", Some(""), levels);
            allowed(&room, &state, &event)
        };
        assert!(check(json!(5)), "{version}");
        for text in ["5", " +05 ", "-5"] {
            assert_eq!(check(json!(text)), number(&version) < 10, "{version}: {text}");
        }
        for nonsense in [json!("5.5"), json!("five"), json!(null), json!([5]), json!({})] {
            assert!(!check(nonsense.clone()), "{version}: {nonsense}");
        }
    }
    // What a peer wrote as a float counts as its whole part.
    let rules = RoomVersionId::V5.rules().unwrap();
    let (mut room, mut state) = Room::new(RoomVersionId::V5);
    let whole = json!({ "users": { "@alice:one.example": 100, "@bob:one.example": 40 } });
    let whole = room.make(&state, 6, "alice", "m.room.power_levels", Some(""), whole);
    let json = whole.json().replace(":40", ":49.9");
    let id = whole.event_id().to_owned();
    let levels = Event::from_stored(json.into_bytes(), id.clone(), &rules, false).unwrap();
    room.events.insert(id.clone(), Arc::new(levels));
    state.insert(key("m.room.power_levels", ""), id);
    room.join(&mut state, 7, "bob");
    for (needed, is_allowed) in [(49, true), (50, false)] {
        let mut levels = state.clone();
        let content = json!({
            "users": { "@alice:one.example": 100, "@bob:one.example": 49 }, "state_default": needed,
        });
        room.add(&mut levels, 8, "alice", "m.room.power_levels", Some(""), content);
        // Compared with the float, bob's entry is not changed by whoever writes 49.
        let event = room.make(&levels, 9, "bob", "m.room.topic", Some(""), json!({}));
        assert_eq!(allowed(&room, &levels, &event), is_allowed);
    }
    let topic = room.make(&state, 9, "bob", "m.room.topic", Some(""), json!({}));
    assert!(!allowed(&room, &state, &topic), "49 of 50");
    let same = json!({ "users": { "@alice:one.example": 100, "@bob:one.example": 49 } });
    let same = room.make(&state, 9, "alice", "m.room.power_levels", Some(""), same);
    assert!(allowed(&room, &state, &same));
}

#[test]
fn the_level_to_notify_all_is_guarded_from_version_6_on() {
    for version in SUPPORTED {
        let (mut room, mut state) = Room::new(version.clone());
        room.join(&mut state, 5, "bob");
        let levels = |notify: i64| {
            let mut levels = json!({
                "users": { "@bob:one.example": 50 }, "events": { "m.room.power_levels": 50 },
                "notifications": { "room": notify },
            });
            if number(&version) < 12 {
                levels["users"]["@alice:one.example"] = json!(100);
            }
            levels
        };
        let kind = "m.room.power_levels";
        room.add(&mut state, 6, "alice", kind, Some(""), levels(60));
        for (notify, always) in [(10, false), (60, true), (70, false)] {
            let event = room.make(&state, 7, "bob", kind, Some(""), levels(notify));
            let is_allowed = always || number(&version) < 6;
            assert_eq!(allowed(&room, &state, &event), is_allowed, "{version}: {notify}");
        }
    }
}

#[test]
fn redactions_need_a_level_or_an_id_of_the_same_server_in_versions_1_and_2() {
    for version in SUPPORTED {
        let (mut room, mut state) = Room::new(version.clone());
        room.join(&mut state, 5, "carol");
        let is_old = number(&version) < 3;
        for (target, by_id) in [("$x:one.example", true), ("$x:two.example", false), ("$x", false)]
        {
            for (sender, has_level) in [("alice", true), ("carol", false)] {
                let content = json!({ "redacts": target });
                let event = room.make(&state, 6, sender, "m.room.redaction", None, content);
                let mut json: Value = serde_json::from_str(event.json()).unwrap();
                json["redacts"] = json!(target);
                let (id, rules) = (event.event_id().to_owned(), &room.rules);
                let event = Event::from_stored(json.to_string().into_bytes(), id, rules, false);
                let is_allowed = !is_old || by_id || has_level;
                let event = event.unwrap();
                assert_eq!(
                    allowed(&room, &state, &event),
                    is_allowed,
                    "{version}: {sender} {target}"
                );
            }
        }
    }
}
