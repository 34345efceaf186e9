//! What passes: receipts and the counts that depend on them, typing, presence.

use std::time::{Duration, Instant};

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{
    counts_apart, create, encode, in_room, joined, now, presence_seen, room_of, say, send, sync,
    sync_with, token,
};

fn events(room: &Value, kind: &str) -> Vec<Value> {
    let events = room["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
    events.into_iter().filter(|event| event["type"] == kind).collect()
}

async fn read(client: &Client, room: &str, kind: &str, event: &str, body: Value) {
    let path = in_room(room, &format!("receipt/{kind}/{}", encode(event)));
    client.post(&path, body).await.ok();
}

/// Unread and highlighted events, as a fresh sync counts them.
async fn unread(client: &Client, room: &str) -> (i64, i64) {
    let answer = sync(client, None).await;
    let counts = &joined(&answer, room)["unread_notifications"];
    let count = |name: &str| counts[name].as_i64().unwrap();
    (count("notification_count"), count("highlight_count"))
}

#[tokio::test]
async fn receipts_reach_those_they_are_for() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let first = say(&alice, &room, "1").await;
    let second = say(&alice, &room, "2").await;
    let (at_alice, at_bob) = (now(&alice).await, now(&bob).await);
    read(&bob, &room, "m.read", &second, json!({})).await;
    let answer = sync(&alice, Some(&at_alice)).await;
    let shown = &events(joined(&answer, &room), "m.receipt")[0]["content"][&second]["m.read"];
    assert!(shown[&bob.user_id]["ts"].is_i64(), "{answer}");
    let since = token(&answer);
    read(&bob, &room, "m.read", &first, json!({})).await;
    let answer = sync(&alice, Some(&since)).await;
    assert!(answer.get("rooms").is_none(), "receipts do not go back: {answer}");
    let third = say(&alice, &room, "3").await;
    let since = now(&alice).await;
    read(&bob, &room, "m.read.private", &third, json!({})).await;
    let answer = sync(&alice, Some(&since)).await;
    assert!(events(joined(&answer, &room), "m.receipt").is_empty(), "private: {answer}");
    let answer = sync(&bob, Some(&at_bob)).await;
    let own = &events(joined(&answer, &room), "m.receipt")[0]["content"];
    assert!(own[&third]["m.read.private"][&bob.user_id].is_object(), "{answer}");
}

#[tokio::test]
async fn receipts_that_make_no_sense_are_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice]).await;
    let other = room_of(&[&alice]).await;
    let event = say(&alice, &room, "1").await;
    let elsewhere = say(&alice, &other, "2").await;
    let path =
        |kind: &str, event: &str| in_room(&room, &format!("receipt/{kind}/{}", encode(event)));
    bob.post(&path("m.read", &event), json!({})).await.err(403, "M_FORBIDDEN");
    alice.post(&path("m.read", &elsewhere), json!({})).await.err(404, "M_NOT_FOUND");
    alice.post(&path("m.read", "$nothing"), json!({})).await.err(404, "M_NOT_FOUND");
    alice.post(&path("m.wrong", &event), json!({})).await.err(400, "M_INVALID_PARAM");
    for thread in ["", "x", "$nothing"] {
        let body = json!({ "thread_id": thread });
        alice.post(&path("m.read", &event), body).await.err(400, "M_INVALID_PARAM");
    }
    let body = json!({ "thread_id": "main" });
    alice.post(&path("m.fully_read", &event), body).await.err(400, "M_INVALID_PARAM");
    alice.post(&path("m.fully_read", &elsewhere), json!({})).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn read_markers_are_account_data() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room_of(&[&alice]).await;
    let first = say(&alice, &room, "1").await;
    let second = say(&alice, &room, "2").await;
    let since = now(&alice).await;
    let path = in_room(&room, "read_markers");
    let body = json!({ "m.fully_read": second, "m.read": second, "m.read.private": first });
    alice.post(&path, body).await.ok();
    let answer = sync(&alice, Some(&since)).await;
    let shown = joined(&answer, &room);
    let marker = json!({ "type": "m.fully_read", "content": { "event_id": second } });
    assert_eq!(shown["account_data"]["events"], json!([marker]));
    let receipts = &events(shown, "m.receipt")[0]["content"];
    assert!(receipts[&second]["m.read"][&alice.user_id].is_object(), "{shown}");
    assert!(receipts[&first]["m.read.private"][&alice.user_id].is_object(), "{shown}");
    let since = token(&answer);
    alice.post(&path, json!({ "m.fully_read": first })).await.ok();
    let answer = sync(&alice, Some(&since)).await;
    assert!(answer.get("rooms").is_none(), "the marker does not go back: {answer}");
}

#[tokio::test]
async fn unread_events_are_counted() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    let room = room_of(&[&alice, &bob, &carol]).await;
    assert_eq!(unread(&alice, &room).await, (0, 0), "joins do not notify");
    say(&bob, &room, "one").await;
    let two = say(&bob, &room, "two").await;
    assert_eq!(unread(&alice, &room).await, (2, 0));
    assert_eq!(unread(&bob, &room).await, (0, 0), "one's own events are read");
    let hey = json!({
        "msgtype": "m.text", "body": "hey", "m.mentions": { "user_ids": [alice.user_id] },
    });
    let three = send(&carol, &room, "m.room.message", hey).await;
    assert_eq!(unread(&alice, &room).await, (3, 1));
    assert_eq!(unread(&bob, &room).await, (1, 0), "meant for somebody else");
    read(&alice, &room, "m.read", &two, json!({})).await;
    assert_eq!(unread(&alice, &room).await, (1, 1));
    read(&alice, &room, "m.read.private", &three, json!({})).await;
    assert_eq!(unread(&alice, &room).await, (0, 0));
    say(&alice, &room, "mine").await;
    say(&bob, &room, "his").await;
    assert_eq!(unread(&alice, &room).await, (1, 0));
    assert_eq!(unread(&carol, &room).await, (2, 0));
    let dave = server.user("dave").await;
    dave.post(&in_room(&room, "join"), json!({})).await.ok();
    assert_eq!(unread(&dave, &room).await, (0, 0), "what was before the join does not count");
    say(&bob, &room, "welcome").await;
    assert_eq!(unread(&dave, &room).await, (1, 0));
}

/// What was counted and is redacted, or was said by somebody who is ignored since, is unread no more.
#[tokio::test]
async fn unread_counts_fall_with_what_was_counted() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    let room = room_of(&[&alice, &bob, &carol]).await;
    let mention = |text: &str| {
        let mentions = json!({ "user_ids": [alice.user_id] });
        json!({ "msgtype": "m.text", "body": text, "m.mentions": mentions })
    };
    let mut since = now(&alice).await;
    let first = send(&bob, &room, "m.room.message", mention("a")).await;
    say(&bob, &room, "b").await;
    send(&carol, &room, "m.room.message", mention("c")).await;
    say(&carol, &room, "d").await;
    let told = async |since: &mut String| {
        let answer = sync(&alice, Some(since)).await;
        *since = token(&answer);
        let counts = joined(&answer, &room)["unread_notifications"].clone();
        let warm = (counts["notification_count"].as_i64(), counts["highlight_count"].as_i64());
        let cold = unread(&alice, &room).await;
        assert_eq!(warm, (Some(cold.0), Some(cold.1)), "{answer}");
        cold
    };
    assert_eq!(told(&mut since).await, (4, 2));
    let redact = format!("/_matrix/client/v3/rooms/{room}/redact/{first}/1");
    bob.put(&redact, json!({})).await.ok();
    assert_eq!(told(&mut since).await, (3, 1));
    let list =
        format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    alice.put(&list, json!({ "ignored_users": { &carol.user_id: {} } })).await.ok();
    assert_eq!(unread(&alice, &room).await, (1, 0));
    send(&carol, &room, "m.room.message", mention("e")).await;
    say(&bob, &room, "f").await;
    assert_eq!(told(&mut since).await, (2, 0));
    alice.put(&list, json!({ "ignored_users": {} })).await.ok();
    say(&bob, &room, "g").await;
    assert_eq!(told(&mut since).await, (5, 1), "but for what she said while she was ignored");
}

#[tokio::test]
async fn threads_are_counted_apart() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let root = say(&alice, &room, "root").await;
    let reply = |n: u32| {
        let relation = json!({ "rel_type": "m.thread", "event_id": root });
        json!({ "msgtype": "m.text", "body": format!("reply {n}"), "m.relates_to": relation })
    };
    send(&bob, &room, "m.room.message", reply(1)).await;
    let second = send(&bob, &room, "m.room.message", reply(2)).await;
    let main = say(&bob, &room, "aside").await;
    let counts = async || counts_apart(&alice, &room, &root).await;
    assert_eq!(counts().await, (1, 2));
    assert_eq!(unread(&alice, &room).await, (3, 0), "all together without the filter");
    read(&alice, &room, "m.read", &second, json!({ "thread_id": root })).await;
    assert_eq!(counts().await, (1, 0));
    read(&alice, &room, "m.read", &main, json!({ "thread_id": "main" })).await;
    assert_eq!(counts().await, (0, 0));
    let path = in_room(&room, &format!("receipt/m.read/{}", encode(&second)));
    let body = json!({ "thread_id": "main" });
    alice.post(&path, body).await.err(400, "M_INVALID_PARAM");
    let third = send(&bob, &room, "m.room.message", reply(3)).await;
    assert_eq!(counts().await, (0, 1));
    read(&alice, &room, "m.read", &third, json!({})).await;
    assert_eq!(counts().await, (0, 0), "an unthreaded receipt reads threads too");
}

#[tokio::test]
async fn ignored_users_are_not_heard() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let path = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        encode(&alice.user_id)
    );
    let list = json!({ "ignored_users": { &bob.user_id: {} } });
    let before = now(&alice).await;
    alice.put(&path, list.clone()).await.ok();
    let answer = sync(&alice, Some(&before)).await;
    let expected = json!([{ "type": "m.ignored_user_list", "content": list }]);
    assert_eq!(answer["account_data"]["events"], expected);
    let since = token(&answer);
    say(&bob, &room, "unheard").await;
    create(&bob, json!({ "invite": [alice.user_id] })).await;
    bob.put(&in_room(&room, "state/m.room.member/"), json!({})).await;
    let answer = sync(&alice, Some(&since)).await;
    assert!(answer["rooms"].get("invite").is_none(), "{answer}");
    let timeline = joined(&answer, &room)["timeline"]["events"].as_array().cloned();
    assert_eq!(timeline.unwrap_or_default(), Vec::<Value>::new());
    alice.put(&path, json!({ "ignored_users": {} })).await.ok();
    say(&bob, &room, "heard").await;
    let answer = sync(&alice, Some(&token(&answer))).await;
    assert_eq!(joined(&answer, &room)["timeline"]["events"][0]["content"]["body"], "heard");
}

#[tokio::test]
async fn typing_ends_by_itself() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let path = in_room(&room, &format!("typing/{}", encode(&bob.user_id)));
    let since = now(&alice).await;
    bob.put(&path, json!({ "typing": true, "timeout": 700 })).await.ok();
    let began = Instant::now();
    let answer = sync_with(&alice, Some(&since), "timeout=10000").await;
    let typing = |answer: &Value| events(joined(answer, &room), "m.typing")[0]["content"].clone();
    assert_eq!(typing(&answer), json!({ "user_ids": [bob.user_id] }));
    let answer = sync_with(&alice, Some(&token(&answer)), "timeout=10000").await;
    assert_eq!(typing(&answer), json!({ "user_ids": [] }));
    assert!(began.elapsed() < Duration::from_secs(9), "woken when the time was over");
    let since = token(&answer);
    bob.put(&path, json!({ "typing": true, "timeout": 60000 })).await.ok();
    bob.put(&path, json!({ "typing": false })).await.ok();
    let answer = sync(&alice, Some(&since)).await;
    assert_eq!(typing(&answer), json!({ "user_ids": [] }));
    let whole = sync(&alice, None).await;
    assert!(events(joined(&whole, &room), "m.typing").is_empty(), "nobody types");
    alice.put(&path, json!({ "typing": true })).await.err(403, "M_FORBIDDEN");
    let carol = server.user("carol").await;
    let path = in_room(&room, &format!("typing/{}", encode(&carol.user_id)));
    carol.put(&path, json!({ "typing": true })).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn presence_is_shown_to_those_in_a_room() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let carol = server.user("carol").await;
    room_of(&[&alice, &bob]).await;
    let status =
        |user: &Client| format!("/_matrix/client/v3/presence/{}/status", encode(&user.user_id));
    let at_alice = now(&alice).await;
    let at_carol = now(&carol).await;
    let out = json!({ "presence": "unavailable", "status_msg": "out" });
    bob.put(&status(&bob), out).await.ok();
    let answer = presence_seen(&alice, &at_alice).await;
    let shown = answer["presence"]["events"].as_array().unwrap();
    assert_eq!(shown.len(), 1, "{answer}");
    assert_eq!(shown[0]["sender"], json!(bob.user_id));
    assert_eq!(shown[0]["content"]["presence"], "unavailable");
    let quiet = sync(&alice, Some(&token(&answer))).await;
    assert!(quiet.get("presence").is_none(), "{quiet}");
    let strange = sync(&carol, Some(&at_carol)).await;
    assert!(strange.get("presence").is_none(), "{strange}");
    let shown = alice.get(&status(&bob)).await.ok();
    assert_eq!((&shown["presence"], &shown["status_msg"]), (&json!("unavailable"), &json!("out")));
    carol.get(&status(&bob)).await.err(403, "M_FORBIDDEN");
    carol.get("/_matrix/client/v3/presence/@nobody:localhost/status").await.err(404, "M_NOT_FOUND");
    alice.put(&status(&bob), json!({ "presence": "online" })).await.err(403, "M_FORBIDDEN");
    bob.put(&status(&bob), json!({ "presence": "asleep" })).await.err(400, "M_INVALID_PARAM");
    let since = token(&quiet);
    sync_with(&bob, None, "set_presence=offline").await;
    assert!(sync(&alice, Some(&since)).await.get("presence").is_none(), "unchanged");
    sync(&bob, None).await;
    let answer = presence_seen(&alice, &since).await;
    assert_eq!(answer["presence"]["events"][0]["content"]["presence"], "online", "{answer}");
}
