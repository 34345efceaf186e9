//! What is a map, and which slot a key has.

use super::*;

const MAP: &str = r##"{
    "epoch": 17, "slots": 1024, "hash": "xxh3", "later": "more",
    "workers": [
        {"incarnation": 3, "name": "rooms1", "pool": "rooms", "address": "127.0.0.1:9101", "state": "live"},
        {"incarnation": 5, "name": "rooms2", "pool": "rooms", "address": "unix:/run/r.sock", "state": "draining"},
        {"incarnation": 3, "name": "rooms1", "pool": "typing", "address": "127.0.0.1:9101", "state": "live"}
    ],
    "owners": {"rooms": [[0, 512, 3], [512, 1024, 5]]}
}"##;

fn address(text: &str) -> WorkerAddr {
    text.parse().unwrap()
}

#[test]
fn a_document_becomes_pools_with_workers_and_owners() {
    let map = SlotMap::parse(MAP.as_bytes()).unwrap();
    let rooms = map.pool("rooms").unwrap();
    assert_eq!(map.epoch, 17);
    assert_eq!(rooms.live, [address("127.0.0.1:9101")]);
    assert_eq!(rooms.draining, [address("unix:/run/r.sock")]);
    assert_eq!(
        rooms.owners[1],
        SlotRange { first: 512, end: 1024, owner: address("unix:/run/r.sock") }
    );
    assert_eq!(map.pool("typing").unwrap().owners, []);
    assert_eq!(map.pool("sync"), None);
    assert_eq!(map.workers().len(), 2);
}

#[test]
fn a_hash_or_number_of_slots_we_do_not_know_leaves_only_the_workers() {
    for (known, other) in [("\"xxh3\"", "\"blake9\""), ("1024", "4096")] {
        let map = SlotMap::parse(MAP.replacen(known, other, 1).as_bytes()).unwrap();
        let rooms = map.pool("rooms").unwrap();
        assert_eq!((rooms.live.len(), rooms.owners.len()), (1, 0), "{other}");
    }
}

#[test]
fn a_document_that_contradicts_itself_is_refused_whole() {
    for (right, wrong) in [
        ("[0, 512, 3]", "[0, 513, 3]"),
        ("[0, 512, 3]", "[5, 5, 3]"),
        ("[512, 1024, 5]", "[512, 1025, 5]"),
        ("[512, 1024, 5]", "[512, 1024, 6]"),
        ("\"unix:/run/r.sock\"", "\"127.0.0.1:9101\""),
        ("\"unix:/run/r.sock\"", "\"worker.example.org:80\""),
        ("\"incarnation\": 5", "\"incarnation\": 3"),
        ("\"draining\"", "\"fenced\""),
        ("\"epoch\": 17", "\"epoch\": -1"),
        ("\"epoch\": 17,", ""),
    ] {
        let text = MAP.replacen(right, wrong, 1);
        assert_ne!(text, MAP, "{right}");
        assert!(SlotMap::parse(text.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn rooms_users_and_tokens_have_slots_and_others_have_none() {
    // xxh3_64("@alice:localhost") % 1024, as a worker writes it into her tokens.
    let alice = slot_of(KeyKind::User, b"@alice:localhost").unwrap();
    assert_eq!(u64::from(alice), xxh3_64(b"@alice:localhost") % 1024);
    let hint = [alice / 32, alice % 32].map(|n| HINT_ALPHABET[n as usize]);
    assert_eq!(slot_of(KeyKind::User, &hint), Some(alice));
    assert_eq!(slot_of(KeyKind::User, b"77"), Some(1023));
    assert_eq!(slot_of(KeyKind::User, b"aa"), Some(0));
    // No shard has this name; a token of somebody else's; a name in a Synapse token.
    for key in [&b"A1"[..], b"mat_abcdef", b"YWxpY2U", b""] {
        assert_eq!(slot_of(KeyKind::User, key), None);
    }
    assert!(slot_of(KeyKind::Room, b"!r:h").is_some_and(|slot| slot < 1024));
    assert_eq!(slot_of(KeyKind::SourceIp, b"127.0.0.1"), None);
    assert_eq!(slot_of(KeyKind::Origin, b"example.org"), None);
}
