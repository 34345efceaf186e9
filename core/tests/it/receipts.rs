//! Receipts of threads beside those of the whole room.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{counts_apart, create, encode, in_room, joined, now, room_of, say, send, sync};

fn receipts(answer: &Value, room: &str) -> Value {
    let events = joined(answer, room)["ephemeral"]["events"].as_array().cloned();
    let mut events = events.unwrap_or_default().into_iter();
    events.find(|event| event["type"] == "m.receipt").map_or(Value::Null, |e| e["content"].clone())
}

fn path(room: &str, kind: &str, event: &str) -> String {
    in_room(room, &format!("receipt/{kind}/{}", encode(event)))
}

async fn read(client: &Client, room: &str, event: &str, body: Value) {
    client.post(&path(room, "m.read", event), body).await.ok();
}

async fn refused(client: &Client, room: &str, event: &str, thread: &str) {
    let body = json!({ "thread_id": thread });
    client.post(&path(room, "m.read", event), body).await.err(400, "M_INVALID_PARAM");
}

/// Sends an event that relates to another.
async fn relate(client: &Client, room: &str, kind: &str, rel_type: &str, to: &str) -> String {
    let mut relation = json!({ "rel_type": rel_type, "event_id": to });
    if rel_type == "m.annotation" {
        relation["key"] = "👍".into();
    }
    let mut content = json!({ "m.relates_to": relation });
    if kind == "m.room.message" {
        content["msgtype"] = "m.text".into();
        content["body"] = "words".into();
    }
    send(client, room, kind, content).await
}

#[tokio::test]
async fn of_two_receipts_on_one_event_that_of_the_whole_room_is_shown() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let event = say(&alice, &room, "one").await;
    let since = now(&alice).await;
    read(&bob, &room, &event, json!({})).await;
    read(&bob, &room, &event, json!({ "thread_id": "main" })).await;
    for answer in [sync(&alice, Some(&since)).await, sync(&alice, None).await] {
        let receipt = &receipts(&answer, &room)[&event]["m.read"][&bob.user_id];
        assert!(receipt["ts"].is_i64() && receipt.get("thread_id").is_none(), "{answer}");
    }
    // In the other order, too, and for each kind by itself.
    let event = say(&alice, &room, "two").await;
    let since = now(&alice).await;
    read(&bob, &room, &event, json!({ "thread_id": "main" })).await;
    read(&bob, &room, &event, json!({})).await;
    let answer = sync(&alice, Some(&since)).await;
    let receipt = &receipts(&answer, &room)[&event]["m.read"][&bob.user_id];
    assert!(receipt["ts"].is_i64() && receipt.get("thread_id").is_none(), "{answer}");
    let since = now(&bob).await;
    let private = path(&room, "m.read.private", &event);
    bob.post(&private, json!({ "thread_id": "main" })).await.ok();
    let answer = sync(&bob, Some(&since)).await;
    let receipt = &receipts(&answer, &room)[&event]["m.read.private"][&bob.user_id];
    assert_eq!(receipt["thread_id"], "main", "{answer}");
}

#[tokio::test]
async fn threaded_receipts_go_where_the_event_belongs() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    let root = say(&alice, &room, "root").await;
    let other_root = say(&alice, &room, "other").await;
    let (message, reaction) = ("m.room.message", "m.reaction");
    let reply = relate(&alice, &room, message, "m.thread", &root).await;
    let other_reply = relate(&alice, &room, message, "m.thread", &other_root).await;
    let on_reply = relate(&alice, &room, reaction, "m.annotation", &reply).await;
    let on_root = relate(&alice, &room, reaction, "m.annotation", &root).await;
    let reference = relate(&alice, &room, message, "m.reference", &root).await;
    let on_reference = relate(&alice, &room, reaction, "m.annotation", &reference).await;
    let plain = say(&alice, &room, "plain").await;
    // In order, for receipts do not go back.
    for event in [&root, &reply, &on_reply, &on_root, &reference, &on_reference] {
        read(&alice, &room, event, json!({ "thread_id": root })).await;
    }
    for event in [&root, &on_root, &reference, &on_reference, &plain] {
        read(&alice, &room, event, json!({ "thread_id": "main" })).await;
    }
    for event in [&reply, &on_reply, &other_reply] {
        refused(&alice, &room, event, "main").await;
    }
    // A reply is no root, nor is what relates to one.
    for thread in [&reply, &on_reply, &on_root, &reference] {
        for event in [&reply, &on_reply, thread] {
            refused(&alice, &room, event, thread).await;
        }
    }
    for event in [&other_root, &other_reply, &plain] {
        refused(&alice, &room, event, &root).await;
    }
    let elsewhere = room_of(&[&alice]).await;
    let foreign = say(&alice, &elsewhere, "elsewhere").await;
    refused(&alice, &room, &plain, &foreign).await;
}

#[tokio::test]
async fn a_receipt_on_a_reaction_to_the_root_reads_the_thread() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let root = say(&alice, &room, "root").await;
    relate(&bob, &room, "m.room.message", "m.thread", &root).await;
    say(&bob, &room, "aside").await;
    let on_root = relate(&bob, &room, "m.reaction", "m.annotation", &root).await;
    let counts = async || counts_apart(&alice, &room, &root).await;
    assert_eq!(counts().await, (1, 1));
    read(&alice, &room, &on_root, json!({ "thread_id": root })).await;
    assert_eq!(counts().await, (1, 0), "the thread up to there, and not the main timeline");
    read(&alice, &room, &on_root, json!({ "thread_id": "main" })).await;
    assert_eq!(counts().await, (0, 0));
}

/// Whether a reply that one may not see is in a thread that one sees, a receipt does not tell.
#[tokio::test]
async fn a_receipt_on_a_reaction_to_a_hidden_reply_tells_nothing_of_it() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let state = json!([{
        "type": "m.room.history_visibility", "content": { "history_visibility": "joined" },
    }]);
    let wish = json!({ "preset": "public_chat", "initial_state": state });
    let room = create(&alice, wish).await;
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let root = say(&alice, &room, "root").await;
    let known_reply = relate(&alice, &room, "m.room.message", "m.thread", &root).await;
    bob.post(&in_room(&room, "leave"), json!({})).await.ok();
    let hidden = [
        relate(&alice, &room, "m.room.message", "m.thread", &root).await,
        say(&alice, &room, "aside").await,
    ];
    bob.post(&in_room(&room, "join"), json!({})).await.ok();
    let mut answers = Vec::new();
    for parent in &hidden {
        let reaction = relate(&alice, &room, "m.reaction", "m.annotation", parent).await;
        let mut of_one = Vec::new();
        for thread in [root.as_str(), "main"] {
            let body = json!({ "thread_id": thread });
            let answer = bob.post(&path(&room, "m.read", &reaction), body).await;
            of_one.push((answer.status, answer.body));
        }
        answers.push(of_one);
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!((answers[0][0].0, answers[0][1].0), (400, 200), "it stands in the main timeline");
    // Of a reply that one sees, it is in the thread.
    let reaction = relate(&alice, &room, "m.reaction", "m.annotation", &known_reply).await;
    read(&bob, &room, &reaction, json!({ "thread_id": root })).await;
    refused(&bob, &room, &reaction, "main").await;
}

#[tokio::test]
async fn a_read_marker_moved_by_many_at_once_stands_at_the_latest() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    let mut events = Vec::new();
    for n in 0..6 {
        events.push(say(&alice, &room, &n.to_string()).await);
    }
    let latest = events[5].clone();
    events.reverse();
    let marks = events.iter().map(|event| {
        let (alice, room) = (alice.clone(), room.clone());
        let body = json!({ "m.fully_read": event });
        async move { alice.post(&in_room(&room, "read_markers"), body).await.ok() }
    });
    futures_util::future::join_all(marks).await;
    let marker = format!(
        "/_matrix/client/v3/user/{}/rooms/{}/account_data/m.fully_read",
        encode(&alice.user_id),
        encode(&room)
    );
    assert_eq!(alice.get(&marker).await.ok()["event_id"], json!(latest));
}
