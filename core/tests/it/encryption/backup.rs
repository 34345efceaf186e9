//! Key backup: versions, keys at the three levels, and which key is the better one.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Map, Value, json};

use super::at;

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";
const ALGORITHM: &str = "m.megolm_backup.v1.curve25519-aes-sha2";

fn described(public_key: &str) -> Value {
    json!({ "algorithm": ALGORITHM, "auth_data": { "public_key": public_key, "signatures": {} } })
}

fn key(first: u64, forwarded: u64, verified: bool) -> Value {
    json!({
        "first_message_index": first, "forwarded_count": forwarded, "is_verified": verified,
        "session_data": { "ciphertext": format!("{first} {forwarded} {verified}") },
    })
}

async fn create(client: &Client) -> String {
    let answer = client.post(VERSION, described("first")).await.ok();
    answer["version"].as_str().expect("a version").to_owned()
}

#[tokio::test]
async fn versions_are_made_read_changed_and_deleted() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    alice.get(VERSION).await.err(404, "M_NOT_FOUND");
    assert_eq!(create(&alice).await, "1");
    let expected = json!({
        "algorithm": ALGORITHM, "count": 0, "etag": "0", "version": "1",
        "auth_data": { "public_key": "first", "signatures": {} },
    });
    assert_eq!(alice.get(VERSION).await.ok(), expected);
    assert_eq!(alice.get(&format!("{VERSION}/1")).await.ok(), expected);
    for unknown in ["2", "x", "99999999999999999999"] {
        let path = format!("{VERSION}/{unknown}");
        alice.get(&path).await.err(404, "M_NOT_FOUND");
        alice.put(&path, described("new")).await.err(404, "M_NOT_FOUND");
        alice.delete(&path, None).await.err(404, "M_NOT_FOUND");
    }

    let path = format!("{VERSION}/1");
    let mut changed = described("second");
    alice.put(&path, changed.clone()).await.ok();
    changed["version"] = "1".into();
    alice.put(&path, changed.clone()).await.ok();
    assert_eq!(alice.get(VERSION).await.ok()["auth_data"]["public_key"], "second");
    changed["version"] = "2".into();
    alice.put(&path, changed.clone()).await.err(400, "M_INVALID_PARAM");
    changed["version"] = "1".into();
    changed["algorithm"] = "m.other".into();
    alice.put(&path, changed).await.err(400, "M_INVALID_PARAM");
    alice.put(&path, json!({ "algorithm": ALGORITHM })).await.err(400, "M_BAD_JSON");
    alice.post(VERSION, json!({ "auth_data": {} })).await.err(400, "M_BAD_JSON");
    let text = json!({ "algorithm": ALGORITHM, "auth_data": "text" });
    alice.post(VERSION, text).await.err(400, "M_BAD_JSON");

    assert_eq!(create(&alice).await, "2");
    assert_eq!(alice.get(VERSION).await.ok()["version"], "2");
    assert_eq!(alice.get(&path).await.ok()["version"], "1");
    alice.delete(&format!("{VERSION}/2"), None).await.ok();
    alice.delete(&format!("{VERSION}/2"), None).await.ok();
    alice.get(&format!("{VERSION}/2")).await.err(404, "M_NOT_FOUND");
    assert_eq!(alice.get(VERSION).await.ok()["version"], "1");
    assert_eq!(create(&alice).await, "3", "a number is never used twice");
    let bob = server.user("bob").await;
    bob.get(VERSION).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn keys_go_in_and_out_at_three_levels() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    create(&alice).await;
    let at = |place: &str| format!("{KEYS}{place}?version=1");
    let (room, other) = ("/!a:localhost", "/!b:localhost");

    let one = alice.put(&at("/!a:localhost/s%2F1"), key(1, 0, true)).await.ok();
    assert_eq!(one, json!({ "etag": "1", "count": 1 }));
    let sessions = json!({ "sessions": { "s2": key(2, 0, true), "s3": key(3, 0, true) } });
    let some = alice.put(&at(room), sessions).await.ok();
    assert_eq!(some, json!({ "etag": "2", "count": 3 }));
    let rooms = json!({ "rooms": {
        "!a:localhost": { "sessions": { "s2": key(2, 0, true) } },
        "!b:localhost": { "sessions": { "s4": key(4, 0, true) } },
    } });
    let all = alice.put(&at(""), rooms.clone()).await.ok();
    assert_eq!(all, json!({ "etag": "3", "count": 4 }));
    let same = alice.put(&at(""), rooms).await.ok();
    assert_eq!(same, json!({ "etag": "3", "count": 4 }), "nothing changed");

    assert_eq!(alice.get(&at("/!a:localhost/s%2F1")).await.ok(), key(1, 0, true));
    let got = alice.get(&at(room)).await.ok();
    assert_eq!(got["sessions"].as_object().unwrap().len(), 3);
    let got = alice.get(&at("")).await.ok();
    assert_eq!(got["rooms"]["!b:localhost"], json!({ "sessions": { "s4": key(4, 0, true) } }));
    assert_eq!(alice.get(&at("/!c:localhost")).await.ok(), json!({ "sessions": {} }));
    alice.get(&at("/!c:localhost/s1")).await.err(404, "M_NOT_FOUND");
    alice.get(&at("/!a:localhost/none")).await.err(404, "M_NOT_FOUND");

    let left = alice.delete(&at("/!a:localhost/s2"), None).await.ok();
    assert_eq!(left, json!({ "etag": "4", "count": 3 }));
    let left = alice.delete(&at("/!a:localhost/s2"), None).await.ok();
    assert_eq!(left, json!({ "etag": "4", "count": 3 }));
    assert_eq!(alice.delete(&at(other), None).await.ok(), json!({ "etag": "5", "count": 2 }));
    assert_eq!(alice.delete(&at(""), None).await.ok(), json!({ "etag": "6", "count": 0 }));
    assert_eq!(alice.get(&at("")).await.ok(), json!({ "rooms": {} }));
}

#[tokio::test]
async fn the_better_key_stays() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    create(&alice).await;
    let path = format!("{KEYS}/!a:localhost/s?version=1");
    let steps = [
        (key(5, 5, false), true),
        (key(5, 5, false), false),
        (key(5, 6, false), false),
        (key(5, 4, false), true),
        (key(6, 0, false), false),
        (key(4, 9, false), true),
        (key(9, 9, true), true),
        (key(0, 0, false), false),
        (key(8, 9, true), true),
    ];
    let mut best = Value::Null;
    let mut etag = 0;
    for (step, is_better) in steps {
        let answer = alice.put(&path, step.clone()).await.ok();
        if is_better {
            best = step;
            etag += 1;
        }
        assert_eq!(answer, json!({ "etag": etag.to_string(), "count": 1 }));
        assert_eq!(alice.get(&path).await.ok(), best);
    }
}

#[tokio::test]
async fn only_the_newest_version_takes_keys() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let at = |version: &str| format!("{KEYS}/!a:localhost/s?version={version}");
    alice.put(&at("1"), key(0, 0, false)).await.err(404, "M_NOT_FOUND");
    create(&alice).await;
    alice.put(&at("1"), key(0, 0, false)).await.ok();
    create(&alice).await;
    let refused = alice.put(&at("1"), key(0, 0, true)).await;
    let refused = refused.err(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refused["current_version"], "2");
    let refused = alice.put(&at("7"), key(0, 0, true)).await;
    refused.err(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(alice.get(&at("1")).await.ok(), key(0, 0, false));
    for method in ["", "/!a:localhost", "/!a:localhost/s"] {
        let path = format!("{KEYS}{method}?version=9");
        alice.get(&path).await.err(404, "M_NOT_FOUND");
        alice.delete(&path, None).await.err(404, "M_NOT_FOUND");
        alice.get(&format!("{KEYS}{method}")).await.err(400, "M_MISSING_PARAM");
    }
    let missing = json!({ "first_message_index": 0 });
    alice.put(&at("2"), missing).await.err(400, "M_BAD_JSON");
    let mut negative = key(0, 0, true);
    negative["forwarded_count"] = (-1).into();
    alice.put(&at("2"), negative).await.err(400, "M_BAD_JSON");
    let mut text = key(0, 0, true);
    text["session_data"] = "text".into();
    alice.put(&at("2"), text).await.err(400, "M_BAD_JSON");
    let mut large = key(0, 0, true);
    large["session_data"]["ciphertext"] = "x".repeat(20_000).into();
    alice.put(&at("2"), large).await.err(413, "M_TOO_LARGE");
}

#[tokio::test]
async fn a_large_backup_is_taken_whole_and_survives_a_restart() {
    const SESSIONS: usize = 10_000;
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    create(&alice).await;
    let sessions: Map<String, Value> = (0..SESSIONS)
        .map(|n| {
            let mut key = key(0, 0, true);
            key["session_data"]["ciphertext"] = "x".repeat(600).into();
            (format!("session-{n}"), key)
        })
        .collect();
    let body = json!({ "rooms": { "!a:localhost": { "sessions": sessions } } });
    assert!(body.to_string().len() > 6_000_000);
    let path = format!("{KEYS}?version=1");
    let stored = alice.put(&path, body).await.ok();
    assert_eq!(stored, json!({ "etag": "1", "count": SESSIONS }));
    let server = server.restart().await;
    let alice = at(&server, alice);
    let got = alice.get(&path).await.ok();
    assert_eq!(got["rooms"]["!a:localhost"]["sessions"].as_object().unwrap().len(), SESSIONS);
}
