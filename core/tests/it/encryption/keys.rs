//! Uploading, querying and claiming keys.

use std::collections::BTreeSet;

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use super::{
    CLAIM, QUERY, Signer, UPLOAD, at, changed_since, device_keys, positions, session, upload_device,
};

async fn claim(client: &Client, of: &Client) -> Value {
    let wanted = json!({ &of.user_id: { &of.device_id: "signed_curve25519" } });
    let body = json!({ "one_time_keys": wanted });
    let answer = client.post(CLAIM, body).await.ok();
    answer["one_time_keys"][&of.user_id][&of.device_id].clone()
}

fn one_time_key(n: usize) -> (String, Value) {
    let key = json!({ "key": format!("key{n}"), "signatures": {} });
    (format!("signed_curve25519:AAAA{n:03}"), key)
}

fn one_time_keys(range: std::ops::Range<usize>) -> Value {
    Value::Object(range.map(one_time_key).collect())
}

#[tokio::test]
async fn uploaded_device_keys_are_found() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let phone = alice.another_device().await;
    let bob = server.user("bob").await;
    let (_, keys) = upload_device(&alice).await;
    upload_device(&phone).await;
    let path = format!("/_matrix/client/v3/devices/{}", alice.device_id);
    alice.put(&path, json!({ "display_name": "Alice's desk" })).await.ok();

    let all = json!({ "device_keys": { &alice.user_id: [], "@nobody:localhost": [] } });
    let answer = bob.post(QUERY, all).await.ok();
    let devices = answer["device_keys"][&alice.user_id].as_object().unwrap();
    assert_eq!(devices.len(), 2);
    let mut found = devices[&alice.device_id].clone();
    assert_eq!(found["unsigned"], json!({ "device_display_name": "Alice's desk" }));
    found.as_object_mut().unwrap().remove("unsigned");
    assert_eq!(found, keys);
    assert!(answer["device_keys"].get("@nobody:localhost").is_none());

    let one = json!({ "device_keys": { &alice.user_id: [&phone.device_id, "UNKNOWN"] } });
    let answer = bob.post(QUERY, one).await.ok();
    let devices = answer["device_keys"][&alice.user_id].as_object().unwrap();
    assert_eq!(devices.keys().collect::<Vec<_>>(), [&phone.device_id]);

    let remote = json!({ "device_keys": { "@carol:example.org": [] } });
    let answer = bob.post(QUERY, remote).await.ok();
    assert!(answer["failures"]["example.org"].is_object());
    bob.post(QUERY, json!({})).await.err(400, "M_BAD_JSON");
    server.anonymous().post(QUERY, json!({})).await.err(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn foreign_and_malformed_keys_are_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let signer = Signer::new();
    let foreign = json!({ "device_keys": device_keys(&bob, &signer) });
    alice.post(UPLOAD, foreign).await.err(400, "M_INVALID_PARAM");
    let mut other_device = device_keys(&alice, &signer);
    other_device["device_id"] = "OTHER".into();
    alice.post(UPLOAD, json!({ "device_keys": other_device })).await.err(400, "M_INVALID_PARAM");
    for broken in [json!({}), json!({ "user_id": 1 }), json!("text"), json!([])] {
        alice.post(UPLOAD, json!({ "device_keys": broken })).await.err(400, "M_BAD_JSON");
    }
    let bad_key = json!({ "one_time_keys": { "signed_curve25519:A": 7 } });
    alice.post(UPLOAD, bad_key).await.err(400, "M_BAD_JSON");
    let bad_id = json!({ "one_time_keys": { "nocolon": "key" } });
    alice.post(UPLOAD, bad_id).await.err(400, "M_BAD_JSON");
    let large = json!({ "one_time_keys": { "curve25519:A": "x".repeat(9_000) } });
    alice.post(UPLOAD, large).await.err(413, "M_TOO_LARGE");
    let many = json!({ "one_time_keys": one_time_keys(0..1_001) });
    alice.post(UPLOAD, many).await.err(400, "M_INVALID_PARAM");
    let none = alice.post(UPLOAD, json!({})).await.ok();
    assert_eq!(none, json!({ "one_time_key_counts": { "signed_curve25519": 0 } }));
}

#[tokio::test]
async fn keys_are_claimed_in_upload_order_then_the_fallback() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let late = json!({ "one_time_keys": one_time_keys(5..6) });
    alice.post(UPLOAD, late).await.ok();
    let early = json!({ "one_time_keys": one_time_keys(0..1) });
    let counts = alice.post(UPLOAD, early).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2);
    let fallback = json!({ "fallback_keys": {
        "signed_curve25519:FALL": { "key": "f", "fallback": true, "signatures": {} },
    } });
    alice.post(UPLOAD, fallback).await.ok();

    let device = session(&server, &alice).await.device;
    let unused = async || {
        let encryption = &server.inside().await.services.encryption;
        encryption.unused_fallback_key_types(device).await.unwrap()
    };
    assert_eq!(unused().await.len(), 1);
    let (id, key) = one_time_key(5);
    assert_eq!(claim(&bob, &alice).await, json!({ id: key }));
    let (id, key) = one_time_key(0);
    assert_eq!(claim(&bob, &alice).await, json!({ id: key }));
    assert_eq!(unused().await.len(), 1);
    for _ in 0..2 {
        assert_eq!(claim(&bob, &alice).await["signed_curve25519:FALL"]["key"], "f");
        assert_eq!(unused().await.len(), 0);
    }
    let encryption = &server.inside().await.services.encryption;
    let counts = encryption.one_time_key_counts(device).await.unwrap();
    assert_eq!(counts.into_values().map(u64::from).sum::<u64>(), 0);

    // Issued keys stay issued, through a restart too.
    let same = json!({ "one_time_keys": one_time_keys(5..6) });
    let counts = alice.post(UPLOAD, same.clone()).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 0);
    let changed = json!({ "one_time_keys": { "signed_curve25519:AAAA005": "other" } });
    alice.post(UPLOAD, changed.clone()).await.err(400, "M_UNKNOWN");
    let server = server.restart().await;
    let alice = at(&server, alice);
    alice.post(UPLOAD, changed).await.err(400, "M_UNKNOWN");
    alice.post(UPLOAD, same).await.ok();
}

#[tokio::test]
async fn parallel_claims_get_each_key_once() {
    const KEYS: usize = 60;
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    alice.post(UPLOAD, json!({ "one_time_keys": one_time_keys(0..KEYS) })).await.ok();
    let mut claims = tokio::task::JoinSet::new();
    for _ in 0..KEYS + 20 {
        let (alice, bob) = (alice.clone(), bob.clone());
        claims.spawn(async move { claim(&bob, &alice).await });
    }
    let mut seen = BTreeSet::new();
    let mut empty = 0;
    while let Some(claimed) = claims.join_next().await {
        match claimed.unwrap() {
            Value::Object(keys) => {
                assert_eq!(keys.len(), 1);
                for id in keys.into_iter().map(|(id, _)| id) {
                    assert!(seen.insert(id.clone()), "{id} was handed out twice");
                }
            }
            _ => empty += 1,
        }
    }
    assert_eq!((seen.len(), empty), (KEYS, 20));
}

#[tokio::test]
async fn claims_of_strangers_give_nothing_or_a_failure() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let body = json!({ "one_time_keys": {
        "@nobody:localhost": { "X": "signed_curve25519" },
        &alice.user_id: { "UNKNOWN": "signed_curve25519" },
        "@carol:example.org": { "X": "signed_curve25519" },
    } });
    let answer = alice.post(CLAIM, body).await.ok();
    assert_eq!(answer["one_time_keys"], json!({}));
    assert!(answer["failures"]["example.org"].is_object());
    alice.post(CLAIM, json!({})).await.err(400, "M_BAD_JSON");
}

#[tokio::test]
async fn new_keys_are_announced_to_their_owner_once() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let before = positions(&server).await;
    let (signer, keys) = upload_device(&alice).await;
    assert_eq!(changed_since(&server, &alice, &before).await, [alice.user_id.as_str()]);
    let after = positions(&server).await;
    alice.post(UPLOAD, json!({ "device_keys": keys })).await.ok();
    assert!(changed_since(&server, &alice, &after).await.is_empty());
    let mut more = device_keys(&alice, &signer);
    more["algorithms"] = json!([]);
    alice.post(UPLOAD, json!({ "device_keys": more })).await.ok();
    assert_eq!(changed_since(&server, &alice, &after).await, [alice.user_id.as_str()]);
}

#[tokio::test]
async fn changes_take_sync_tokens_only() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let token = async || {
        let context = &server.inside().await.services.context;
        let positions = context.streams.positions();
        colonnade_model::token::SyncToken { epoch: 0, positions }.encode(&context.token_key)
    };
    let path =
        |from: &str, to: &str| format!("/_matrix/client/v3/keys/changes?from={from}&to={to}");
    let from = token().await;
    upload_device(&alice).await;
    let to = token().await;
    let answer = alice.get(&path(&from, &to)).await.ok();
    assert_eq!(answer, json!({ "changed": [&alice.user_id], "left": [] }));
    let answer = alice.get(&path(&to, &to)).await.ok();
    assert_eq!(answer, json!({ "changed": [], "left": [] }));
    alice.get(&path("nonsense", &to)).await.err(400, "M_INVALID_PARAM");
    alice.get(&path(&from, "s123")).await.err(400, "M_INVALID_PARAM");
    alice.get("/_matrix/client/v3/keys/changes").await.err(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn users_who_share_a_room_are_named_as_changed_or_left() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    let user = session(&server, &alice).await.user;
    let changes = async |from| {
        let upto = positions(&server).await;
        let encryption = &server.inside().await.services.encryption;
        let changes = encryption.device_list_changes(user, &from, &upto).await.unwrap();
        let changed = changes.changed.iter().map(|(name, _)| name.to_string());
        let left = changes.left.iter().map(|name| name.to_string());
        (changed.collect::<Vec<_>>(), left.collect::<Vec<_>>())
    };
    let none = || (Vec::<String>::new(), Vec::<String>::new());
    let create = json!({ "preset": "public_chat" });
    let room = alice.post("/_matrix/client/v3/createRoom", create).await.ok();
    let room = room["room_id"].as_str().unwrap().replace('!', "%21").replace(':', "%3A");
    let act = async |who: &Client, verb: &str| {
        who.post(&format!("/_matrix/client/v3/rooms/{room}/{verb}"), json!({})).await.ok()
    };

    // A stranger's keys are nobody's business.
    let before = positions(&server).await;
    upload_device(&bob).await;
    assert_eq!(changes(before).await, none());
    // Whoever joins is told about, with all keys he had before.
    let before = positions(&server).await;
    act(&bob, "join").await;
    assert_eq!(changes(before).await, (vec![bob.user_id.clone()], vec![]));
    let before = positions(&server).await;
    upload_device(&bob).await;
    upload_device(&carol).await;
    assert_eq!(changes(before).await, (vec![bob.user_id.clone()], vec![]));
    // A change of profile is no join.
    let before = positions(&server).await;
    let path = format!("/_matrix/client/v3/rooms/{room}/state/m.room.member/{}", bob.user_id);
    bob.put(&path, json!({ "membership": "join", "displayname": "Bobby" })).await.ok();
    assert_eq!(changes(before).await, none());
    let before = positions(&server).await;
    act(&bob, "leave").await;
    assert_eq!(changes(before).await, (vec![], vec![bob.user_id.clone()]));
    let before = positions(&server).await;
    upload_device(&bob).await;
    assert_eq!(changes(before).await, none());
    // Whoever enters a room learns of everybody in it.
    act(&bob, "join").await;
    act(&alice, "leave").await;
    let before = positions(&server).await;
    act(&alice, "join").await;
    let (changed, left) = changes(before).await;
    assert!(changed.contains(&bob.user_id) && left.is_empty(), "{changed:?} {left:?}");
    let before = positions(&server).await;
    act(&alice, "leave").await;
    assert_eq!(changes(before).await, (vec![], vec![bob.user_id.clone()]));
}

#[tokio::test]
async fn a_closed_account_leaves_no_keys() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    upload_device(&alice).await;
    let master = Signer::new().as_key(&alice.user_id, "master");
    let path = "/_matrix/client/v3/keys/device_signing/upload";
    alice.post(path, json!({ "master_key": master })).await.ok();
    let body = json!({ "device_keys": { &alice.user_id: [] } });
    let answer = bob.post(QUERY, body.clone()).await.ok();
    assert!(answer["master_keys"][&alice.user_id].is_object());
    let auth = json!({
        "type": "m.login.password", "password": "password-alice",
        "identifier": { "type": "m.id.user", "user": alice.user_id },
    });
    let close = json!({ "auth": auth });
    alice.post("/_matrix/client/v3/account/deactivate", close).await.ok();
    let answer = bob.post(QUERY, body).await.ok();
    assert_eq!(answer["device_keys"][&alice.user_id], json!({}));
    assert_eq!(answer["master_keys"], json!({}));
}

#[tokio::test]
async fn a_deleted_device_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let phone = alice.another_device().await;
    upload_device(&phone).await;
    phone.post(UPLOAD, json!({ "one_time_keys": one_time_keys(0..3) })).await.ok();
    let before = positions(&server).await;
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(claim(&alice, &phone).await, Value::Null);
    let body = json!({ "device_keys": { &alice.user_id: [] } });
    let answer = alice.post(QUERY, body).await.ok();
    assert_eq!(answer["device_keys"][&alice.user_id], json!({}));
    assert_eq!(changed_since(&server, &alice, &before).await, [alice.user_id.as_str()]);
}

#[tokio::test]
async fn a_device_logged_out_while_it_uploads_stores_no_keys() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let phone = alice.another_device().await;
    // As far as a request is when it has been authenticated.
    let authenticated = session(&server, &phone).await;
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let keys = device_keys(&phone, &Signer::new());
    let mut request = colonnade_model::ruma::api::client::keys::upload_keys::v3::Request::new();
    request.device_keys = Some(serde_json::from_value(keys).unwrap());
    let encryption = &server.inside().await.services.encryption;
    let refused = encryption.upload(&authenticated, request).await.unwrap_err();
    assert!(refused.to_string().contains("logged out"), "{refused}");
    let body = json!({ "device_keys": { &alice.user_id: [] } });
    let answer = alice.post(QUERY, body).await.ok();
    assert_eq!(answer["device_keys"][&alice.user_id], json!({}));
}
