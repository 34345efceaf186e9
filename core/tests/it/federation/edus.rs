//! What is no event between two servers: who types, what was read, who is there, messages to devices.

use colonnade_federation::transport::Request;
use colonnade_model::ruma::server_name;
use colonnade_testkit::{Client, TestServer, federation::Federation};
use serde_json::{Value, json};

use super::rooms::{create, encode, join, path, say, until};

/// Two servers, alice on the first, bob on the second, and a room of both.
pub(super) async fn pair() -> (Federation, Client, Client, String) {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    (servers, alice, bob, room)
}

/// Sends EDUs to the first server as another, in a transaction of this name.
pub(super) async fn push(from: &TestServer, txn_id: &str, edus: &[Value]) {
    let body = json!({ "origin": from.name, "origin_server_ts": 1, "pdus": [], "edus": edus });
    let address = format!("/_matrix/federation/v1/send/{txn_id}");
    let transport = &from.inside().await.services.transport;
    let request = Request::put(address, &body).unwrap();
    transport.send(server_name!("hs1"), request).await.unwrap();
}

pub(super) fn edu(edu_type: &str, content: Value) -> Value {
    json!({ "edu_type": edu_type, "content": content })
}

pub(super) async fn sync(client: &Client, since: Option<&str>) -> Value {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    client.get(&format!("/_matrix/client/v3/sync?timeout=0{since}")).await.ok()
}

/// The content of an ephemeral event of a room.
async fn ephemeral(client: &Client, room: &str, event_type: &str) -> Value {
    let synced = sync(client, None).await;
    let events = synced["rooms"]["join"][room]["ephemeral"]["events"].as_array().cloned();
    let events = events.unwrap_or_default();
    let found = events.iter().find(|event| event["type"] == event_type);
    found.map_or(Value::Null, |event| event["content"].clone())
}

async fn typists(client: &Client, room: &str) -> Value {
    let typing = ephemeral(client, room, "m.typing").await["user_ids"].clone();
    if typing.is_null() { json!([]) } else { typing }
}

/// The presence of a user that a first sync tells.
async fn presence(client: &Client, user: &str) -> Value {
    let synced = sync(client, None).await;
    let events = synced["presence"]["events"].as_array().cloned().unwrap_or_default();
    let found = events.iter().find(|event| event["sender"] == user);
    found.map_or(Value::Null, |event| event["content"].clone())
}

/// The messages to a device, which are not acknowledged.
async fn messages(client: &Client) -> Vec<Value> {
    let synced = sync(client, None).await;
    synced["to_device"]["events"].as_array().cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_is_not_the_servers_to_say_is_passed_over() {
    let (servers, alice, _bob, room) = pair().await;
    let _eve = servers[1].user("eve").await;
    let event = say(&alice, &room, "hello").await;
    let types = |room: &str, user: &str| {
        edu("m.typing", json!({ "room_id": room, "user_id": user, "typing": true }))
    };
    let reads = |room: &str, kind: &str, user: &str, event: &str| {
        let receipt = json!({ "data": { "ts": 5 }, "event_ids": [event] });
        edu("m.receipt", json!({ room: { kind: { user: receipt } } }))
    };
    let shows = |user: &str| json!({ "user_id": user, "presence": "online", "last_active_ago": 1 });
    let to = |sender: &str, id: &str, to: Value| {
        let content =
            json!({ "sender": sender, "type": "m.test", "message_id": id, "messages": to });
        edu("m.direct_to_device", content)
    };
    let hello = |text: &str| json!({ "@alice:hs1": { "*": { "text": text } } });
    let edus = [
        // Nothing of these has a form.
        json!("text"),
        json!({ "edu_type": "m.typing" }),
        edu("m.typing", json!({ "room_id": room })),
        edu("m.receipt", json!([])),
        edu("m.presence", json!({ "push": "everybody" })),
        edu("m.direct_to_device", json!({ "messages": {} })),
        edu("org.example.unknown", json!({})),
        // Of users of another server, or not in the room, or of no such room.
        types(&room, "@alice:hs1"),
        types(&room, "@eve:hs2"),
        types("!nowhere:hs1", "@bob:hs2"),
        reads(&room, "m.read", "@alice:hs1", &event),
        reads(&room, "m.read", "@eve:hs2", &event),
        reads(&room, "m.read.private", "@bob:hs2", &event),
        reads(&room, "m.read", "@bob:hs2", "$nothing"),
        edu("m.presence", json!({ "push": [shows("@alice:hs1"), shows("@eve:hs2")] })),
        to("@alice:hs1", "forged", hello("forged")),
        to("@bob:hs2", "large", hello(&"x".repeat(70_000))),
        to("@bob:hs2", "nobody", json!({ "@nobody:hs1": { "*": {} }, "@x:hs3": { "*": {} } })),
    ];
    push(&servers[1], "wrong", &edus).await;
    assert_eq!(typists(&alice, &room).await, json!([]));
    assert_eq!(ephemeral(&alice, &room, "m.receipt").await, Value::Null);
    assert_eq!(messages(&alice).await, Vec::<Value>::new());
    // And what is right, after something that is not.
    let edus = [
        json!(5),
        types(&room, "@bob:hs2"),
        reads(&room, "m.read", "@bob:hs2", &event),
        edu("m.presence", json!({ "push": [shows("@eve:hs2"), shows("@bob:hs2")] })),
        to("@bob:hs2", "right", hello("once")),
        to("@bob:hs2", "right", hello("once")),
    ];
    push(&servers[1], "right", &edus).await;
    push(&servers[1], "right-again", &edus).await;
    until(|| async { typists(&alice, &room).await == json!(["@bob:hs2"]) }).await;
    let receipts = ephemeral(&alice, &room, "m.receipt").await;
    assert_eq!(receipts, json!({ event: { "m.read": { "@bob:hs2": { "ts": 5 } } } }));
    until(|| async { presence(&alice, "@bob:hs2").await["presence"] == "online" }).await;
    assert_eq!(presence(&alice, "@eve:hs2").await, Value::Null);
    let content = json!({ "text": "once" });
    let once = json!({ "sender": "@bob:hs2", "type": "m.test", "content": content });
    assert_eq!(messages(&alice).await, [once], "once for one id, whatever brings it");
    let stops = json!({ "room_id": room, "user_id": "@bob:hs2", "typing": false });
    push(&servers[1], "stop", &[edu("m.typing", stops)]).await;
    until(|| async { typists(&alice, &room).await == json!([]) }).await;
}

#[tokio::test]
async fn a_server_that_the_room_denies_says_nothing_in_it() {
    let (servers, alice, _bob, room) = pair().await;
    let open = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&_bob, &open, "hs1").await;
    let event = say(&alice, &room, "hello").await;
    let acl = json!({ "allow": ["*"], "deny": ["HS2"] });
    alice.put(&path(&room, "state/m.room.server_acl"), acl).await.ok();
    let types = |room: &str| {
        edu("m.typing", json!({ "room_id": room, "user_id": "@bob:hs2", "typing": true }))
    };
    let receipt = json!({ "data": { "ts": 5 }, "event_ids": [event] });
    let reads = edu("m.receipt", json!({ &room: { "m.read": { "@bob:hs2": receipt } } }));
    push(&servers[1], "denied", &[types(&room), reads, types(&open)]).await;
    until(|| async { typists(&alice, &open).await == json!(["@bob:hs2"]) }).await;
    assert_eq!(typists(&alice, &room).await, json!([]));
    assert_eq!(ephemeral(&alice, &room, "m.receipt").await, Value::Null);
}

#[tokio::test]
async fn who_types_and_what_was_read_crosses_and_what_is_private_does_not() {
    let (servers, alice, bob, room) = pair().await;
    let typing = |user: &str| path(&room, &format!("typing/{}", encode(user)));
    alice.put(&typing("@alice:hs1"), json!({ "typing": true, "timeout": 60_000 })).await.ok();
    until(|| async { typists(&bob, &room).await == json!(["@alice:hs1"]) }).await;
    alice.put(&typing("@alice:hs1"), json!({ "typing": false })).await.ok();
    until(|| async { typists(&bob, &room).await == json!([]) }).await;
    let first = say(&alice, &room, "first").await;
    let second = say(&alice, &room, "second").await;
    super::rooms::sees(&bob, &room, "second").await;
    let read = async |kind: &str, event: &str, body: Value| {
        bob.post(&path(&room, &format!("receipt/{kind}/{}", encode(event))), body).await.ok();
    };
    read("m.read.private", &second, json!({})).await;
    read("m.read", &first, json!({})).await;
    let of = async |event: &str| ephemeral(&alice, &room, "m.receipt").await[event].clone();
    until(|| async { of(&first).await["m.read"]["@bob:hs2"]["ts"].is_number() }).await;
    assert_eq!(of(&second).await, Value::Null, "it is private");
    // Receipts of threads beside that of the room, and while the other server is away.
    servers.cut(0);
    read("m.read", &second, json!({ "thread_id": "main" })).await;
    servers.mend(0);
    until(|| async { of(&second).await["m.read"]["@bob:hs2"]["thread_id"] == "main" }).await;
    assert!(of(&first).await["m.read"]["@bob:hs2"].is_object(), "the other one stands");
}

#[tokio::test]
async fn messages_to_devices_arrive_once_whatever_is_away_meanwhile() {
    let (mut servers, alice, bob, _room) = pair().await;
    let phone = bob.another_device().await;
    let send = async |txn: &str, messages: Value| {
        let address = format!("/_matrix/client/v3/sendToDevice/m.test/{txn}");
        alice.put(&address, json!({ "messages": messages })).await.ok();
    };
    let texts = async |client: &Client| {
        let messages = messages(client).await;
        let texts = messages.iter().map(|message| message["content"]["text"].clone());
        texts.collect::<Vec<Value>>()
    };
    send("1", json!({ "@bob:hs2": { "*": { "text": 1 } }, "@alice:hs1": { "*": { "text": 1 } } }))
        .await;
    send("1", json!({ "@bob:hs2": { "*": { "text": "again" } } })).await;
    servers.cut(1);
    for text in 2..=80 {
        send(&text.to_string(), json!({ "@bob:hs2": { &bob.device_id: { "text": text } } })).await;
    }
    servers.restart(0).await;
    let alice = alice.at(&servers[0].url);
    servers.mend(1);
    until(|| async { texts(&bob).await.len() >= 80 }).await;
    let all: Vec<Value> = (1..=80).map(Value::from).collect();
    assert_eq!(texts(&bob).await, all, "once each, in order");
    assert_eq!(texts(&phone).await, [json!(1)], "what was for all devices");
    assert_eq!(texts(&alice).await, [json!(1)]);
}

fn status(user: &str) -> String {
    format!("/_matrix/client/v3/presence/{}/status", encode(user))
}

async fn set(client: &Client, body: Value) {
    client.put(&status(&client.user_id), body).await.ok();
}

#[tokio::test]
async fn who_is_here_is_told_when_it_changes_and_to_a_server_that_comes() {
    let (servers, alice, bob, _room) = pair().await;
    set(&alice, json!({ "presence": "online", "status_msg": "at work" })).await;
    until(|| async { presence(&bob, "@alice:hs1").await["status_msg"] == "at work" }).await;
    let shown = presence(&bob, "@alice:hs1").await;
    assert_eq!((&shown["presence"], &shown["currently_active"]), (&json!("online"), &json!(true)));
    assert!(shown["last_active_ago"].as_i64().is_some_and(|ago| ago >= 0), "{shown}");
    set(&alice, json!({ "presence": "unavailable" })).await;
    until(|| async { presence(&bob, "@alice:hs1").await["presence"] == "unavailable" }).await;
    // An answer that goes on tells it, too, and whoever shares no room is told nothing.
    let since = sync(&bob, None).await["next_batch"].as_str().unwrap().to_owned();
    set(&alice, json!({ "presence": "online", "status_msg": "back" })).await;
    let answer = crate::sync::presence_seen(&bob, &since).await;
    assert_eq!(answer["presence"]["events"][0]["sender"], "@alice:hs1", "{answer}");
    let carol = servers[1].user("carol").await;
    carol.get(&status("@alice:hs1")).await.err(403, "M_FORBIDDEN");
    assert_eq!(presence(&carol, "@alice:hs1").await, Value::Null);
}

#[tokio::test]
async fn servers_that_come_to_share_a_room_are_told_who_is_here() {
    let servers = Federation::start(2).await;
    let (dora, carol) = (servers[0].user("dora").await, servers[1].user("carol").await);
    // Both said it long before there is a room.
    set(&dora, json!({ "presence": "online", "status_msg": "new" })).await;
    set(&carol, json!({ "presence": "online", "status_msg": "far" })).await;
    let room = create(&dora, json!({ "preset": "private_chat", "invite": ["@carol:hs2"] })).await;
    until(|| async { sync(&carol, None).await["rooms"]["invite"][&room].is_object() }).await;
    assert_eq!(presence(&carol, "@dora:hs1").await, Value::Null, "an invitation is no room");
    join(&carol, &room, "hs1").await;
    until(|| async { presence(&carol, "@dora:hs1").await["status_msg"] == "new" }).await;
    until(|| async { presence(&dora, "@carol:hs2").await["status_msg"] == "far" }).await;
    // And whoever of a server that is there comes later.
    let eve = servers[1].user("eve").await;
    set(&eve, json!({ "presence": "online", "status_msg": "late" })).await;
    assert_eq!(presence(&dora, "@eve:hs2").await, Value::Null);
    carol.post(&path(&room, "invite"), json!({ "user_id": "@eve:hs2" })).await.ok();
    join(&eve, &room, "hs2").await;
    until(|| async { presence(&dora, "@eve:hs2").await["status_msg"] == "late" }).await;
}

#[tokio::test]
async fn what_is_said_of_a_user_before_his_join_is_done_is_not_lost() {
    let (servers, alice, _bob, room) = pair().await;
    let eve = servers[1].user("eve").await;
    let early = json!({ "user_id": "@eve:hs2", "presence": "online", "status_msg": "early" });
    push(&servers[1], "early", &[edu("m.presence", json!({ "push": [early] }))]).await;
    assert_eq!(presence(&alice, "@eve:hs2").await, Value::Null);
    join(&eve, &room, "hs1").await;
    until(|| async { presence(&alice, "@eve:hs2").await["status_msg"] == "early" }).await;
}
