//! Devices and keys of users of other servers: asked for, kept, changed as their servers say, and claimed.

use colonnade_testkit::{Client, federation::Federation};
use serde_json::{Value, json};

use super::{
    edus::{edu, pair, push, sync},
    rooms::{create, join, membership, path, until},
};
use crate::encryption::{bootstrap, upload_device};

const BOB: &str = "@bob:hs2";

async fn query(client: &Client, user: &str) -> Value {
    client.post("/_matrix/client/v3/keys/query", json!({ "device_keys": { user: [] } })).await.ok()
}

/// The devices of bob that somebody finds, by name.
async fn devices(client: &Client) -> Vec<String> {
    let found = query(client, BOB).await;
    let devices = found["device_keys"][BOB].as_object().cloned().unwrap_or_default();
    devices.keys().cloned().collect()
}

async fn claim(client: &Client, user: &str, device: &str) -> Value {
    let body = json!({ "one_time_keys": { user: { device: "signed_curve25519" } } });
    client.post("/_matrix/client/v3/keys/claim", body).await.ok()
}

async fn upload_one_time_keys(client: &Client, names: &[&str]) {
    let keys = names.iter().map(|name| {
        let key = json!({ "key": name, "signatures": { &client.user_id: { "ed25519:X": "s" } } });
        (format!("signed_curve25519:{name}"), key)
    });
    let keys: serde_json::Map<String, Value> = keys.collect();
    client.post("/_matrix/client/v3/keys/upload", json!({ "one_time_keys": keys })).await.ok();
}

/// Waits until a sync since a token names bob as changed.
async fn hears_of_bob(client: &Client, since: &str) {
    until(|| async {
        let changed = sync(client, Some(since)).await["device_lists"]["changed"].clone();
        changed.as_array().is_some_and(|changed| changed.contains(&json!(BOB)))
    })
    .await;
}

async fn token(client: &Client) -> String {
    sync(client, None).await["next_batch"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_are_asked_of_the_server_of_their_user() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let (_, uploaded) = upload_device(&bob).await;
    upload_one_time_keys(&bob, &["one", "two"]).await;
    // Nobody shares a room with anybody.
    let found = query(&alice, BOB).await;
    let shown = &found["device_keys"][BOB][&bob.device_id];
    assert_eq!(shown["keys"], uploaded["keys"]);
    assert_eq!(shown["signatures"], uploaded["signatures"]);
    assert_eq!(found["failures"], json!({}));
    assert_eq!(query(&alice, "@nobody:hs2").await["device_keys"]["@nobody:hs2"], Value::Null);
    let mut claimed = Vec::new();
    for _ in 0..3 {
        let answer = claim(&alice, BOB, &bob.device_id).await;
        assert_eq!(answer["failures"], json!({}));
        let keys = answer["one_time_keys"][BOB][&bob.device_id].as_object().cloned();
        claimed.extend(keys.unwrap_or_default().keys().cloned());
    }
    claimed.sort();
    assert_eq!(claimed, ["signed_curve25519:one", "signed_curve25519:two"], "each once");
    servers.cut(1);
    assert!(query(&alice, BOB).await["failures"]["hs2"].is_object());
    assert!(claim(&alice, BOB, &bob.device_id).await["failures"]["hs2"].is_object());
}

#[tokio::test]
async fn a_device_list_is_kept_and_follows_its_server() {
    let (servers, alice, bob, room) = pair().await;
    upload_device(&bob).await;
    assert_eq!(devices(&alice).await, [bob.device_id.as_str()]);
    // What was asked for is known here, unless a change was on its way meanwhile.
    let keeps = async |count: usize| {
        until(|| async {
            devices(&alice).await;
            servers.cut(1);
            let found = query(&alice, BOB).await;
            servers.mend(1);
            let known = found["device_keys"][BOB].as_object();
            found["failures"] == json!({}) && known.is_some_and(|known| known.len() == count)
        })
        .await;
    };
    keeps(1).await;
    let before = token(&alice).await;
    let phone = bob.another_device().await;
    upload_device(&phone).await;
    hears_of_bob(&alice, &before).await;
    until(|| async { devices(&alice).await.len() == 2 }).await;
    keeps(2).await;
    let name = format!("/_matrix/client/v3/devices/{}", phone.device_id);
    bob.put(&name, json!({ "display_name": "Telephone" })).await.ok();
    let shown = async || {
        let keys = &query(&alice, BOB).await["device_keys"][BOB][&phone.device_id];
        keys["unsigned"]["device_display_name"].clone()
    };
    until(|| async { shown().await == "Telephone" }).await;
    let before = token(&alice).await;
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    hears_of_bob(&alice, &before).await;
    until(|| async { devices(&alice).await == [bob.device_id.as_str()] }).await;
    // While the server of those who look is away, and what is missed is noticed.
    servers.cut(0);
    let tablet = bob.another_device().await;
    upload_device(&tablet).await;
    servers.mend(0);
    until(|| async { devices(&alice).await.len() == 2 }).await;
    // What bob does out of the room is known when he is back.
    bob.post(&path(&room, "leave"), json!({})).await.ok();
    tablet.post("/_matrix/client/v3/logout", json!({})).await.ok();
    join(&bob, &room, "hs1").await;
    until(|| async { devices(&alice).await == [bob.device_id.as_str()] }).await;
}

#[tokio::test]
async fn a_change_after_one_that_was_missed_leads_to_the_whole_list() {
    let (servers, alice, bob, _room) = pair().await;
    upload_device(&bob).await;
    assert_eq!(devices(&alice).await.len(), 1);
    let before = token(&alice).await;
    let update = |user: &str, device: &str, stream: i64, prev: &[i64]| {
        let content = json!({ "user_id": user, "device_id": device, "stream_id": stream,
            "prev_id": prev, "keys": { "user_id": user, "device_id": device } });
        edu("m.device_list_update", content)
    };
    let wrong = [
        edu("m.device_list_update", json!({ "user_id": BOB })),
        edu("m.signing_key_update", json!({ "user_id": BOB, "master_key": { "keys": {} } })),
        update("@alice:hs1", "GHOST", 1, &[]),
        update("@nobody:hs2", "GHOST", 1, &[]),
        update(BOB, "GHOST", 1_000_000, &[999_999]),
    ];
    push(&servers[1], "gap", &wrong).await;
    hears_of_bob(&alice, &before).await;
    until(|| async { devices(&alice).await == [bob.device_id.as_str()] }).await;
    assert_eq!(query(&alice, "@alice:hs1").await["device_keys"]["@alice:hs1"], json!({}));
    // Asked for without anybody who asks: it is whole again.
    until(|| async {
        servers.cut(1);
        let found = query(&alice, BOB).await;
        servers.mend(1);
        found["failures"] == json!({})
    })
    .await;
}

#[tokio::test]
async fn cross_signing_keys_cross_and_are_signed_from_afar() {
    let (_servers, alice, bob, _room) = pair().await;
    upload_device(&bob).await;
    assert_eq!(query(&alice, BOB).await["master_keys"], json!({}));
    let before = token(&alice).await;
    let of_bob = bootstrap(&bob).await;
    hears_of_bob(&alice, &before).await;
    until(|| async { query(&alice, BOB).await["master_keys"][BOB].is_object() }).await;
    let found = query(&alice, BOB).await;
    let own = format!("ed25519:{}", of_bob.self_signing.public);
    assert_eq!(found["self_signing_keys"][BOB]["keys"][&own], of_bob.self_signing.public);
    assert_eq!(found["user_signing_keys"], json!({}), "it is bob's own");
    let of_alice = bootstrap(&alice).await;
    let mut master = found["master_keys"][BOB].clone();
    of_alice.user_signing.sign(&mut master, "@alice:hs1", &of_alice.user_signing.public);
    let signed = json!({ BOB: { &of_bob.master.public: master } });
    let answer = alice.post("/_matrix/client/v3/keys/signatures/upload", signed).await.ok();
    assert_eq!(answer, json!({ "failures": {} }));
    let master = query(&alice, BOB).await["master_keys"][BOB].clone();
    assert!(master["signatures"]["@alice:hs1"].is_object(), "{master}");
}

/// Dendrite tells of a new signature of a device so, and in no other way.
#[tokio::test]
async fn a_list_is_asked_for_again_when_the_users_keys_are_said_again() {
    let (servers, alice, bob, _room) = pair().await;
    upload_device(&bob).await;
    bootstrap(&bob).await;
    let is_kept = || async {
        servers.cut(1);
        let found = query(&alice, BOB).await;
        servers.mend(1);
        found["failures"] == json!({})
    };
    let comes_to_be_kept = || async {
        query(&alice, BOB).await;
        is_kept().await
    };
    until(|| async { query(&alice, BOB).await["self_signing_keys"][BOB].is_object() }).await;
    until(comes_to_be_kept).await;
    let found = query(&alice, BOB).await;
    let said = json!({
        "user_id": BOB,
        "master_key": found["master_keys"][BOB],
        "self_signing_key": found["self_signing_keys"][BOB],
    });
    let before = token(&alice).await;
    push(&servers[1], "again", &[edu("m.signing_key_update", said)]).await;
    hears_of_bob(&alice, &before).await;
    assert!(!is_kept().await, "what there is may lack the signature");
    until(comes_to_be_kept).await;
}

#[tokio::test]
async fn a_list_is_asked_for_again_by_a_server_that_was_out_and_whoever_looks_is_told() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&bob, json!({ "preset": "public_chat" })).await;
    join(&alice, &room, "hs2").await;
    upload_device(&bob).await;
    assert_eq!(devices(&alice).await, [bob.device_id.as_str()]);
    alice.post(&path(&room, "leave"), json!({})).await.ok();
    until(|| async { membership(&bob, &room, "@alice:hs1").await == "leave" }).await;
    // Nobody tells it to a server without anybody in a room with bob.
    let tablet = bob.another_device().await;
    upload_device(&tablet).await;
    join(&alice, &room, "hs2").await;
    assert_eq!(devices(&alice).await.len(), 2, "it asks again");
    // Whoever asked before the list was kept hears that there is one.
    let carol = servers[0].user("carol").await;
    join(&carol, &room, "hs2").await;
    bob.post(&path(&room, "leave"), json!({})).await.ok();
    until(|| async { membership(&carol, &room, BOB).await == "leave" }).await;
    join(&bob, &room, "hs2").await;
    until(|| async { membership(&carol, &room, BOB).await == "join" }).await;
    let before = token(&carol).await;
    assert_eq!(devices(&alice).await.len(), 2);
    assert_eq!(sync(&carol, Some(&before)).await["device_lists"], Value::Null, "nothing is new");
    tablet.post("/_matrix/client/v3/logout", json!({})).await.ok();
    hears_of_bob(&carol, &before).await;
}
