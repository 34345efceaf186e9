//! Bugs that were there once, each by its name.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

const CREATE: &str = "/_matrix/client/v3/createRoom";

fn room_path(room: &Value, rest: &str) -> String {
    let room = room["room_id"].as_str().unwrap().replace('!', "%21");
    format!("/_matrix/client/v3/rooms/{room}/{rest}")
}

/// The id of a version 12 room is the hash of its create event: two of one user and millisecond
/// were one room, and the second was refused as a taken alias.
#[tokio::test]
async fn rooms_made_in_the_same_millisecond_are_different_rooms() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let requests: Vec<_> = (0..20)
        .map(|_| {
            let alice = alice.clone();
            tokio::spawn(async move { alice.post(CREATE, json!({})).await.ok() })
        })
        .collect();
    let mut rooms = std::collections::HashSet::new();
    for request in requests {
        rooms.insert(request.await.unwrap()["room_id"].to_string());
    }
    assert_eq!(rooms.len(), 20);
}

/// A creator who gives himself or another creator a level lacks no power; the request is wrong.
#[tokio::test]
async fn a_level_for_a_creator_is_a_bad_request() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let creators = json!({ "additional_creators": [bob.user_id] });
    let request = json!({ "room_version": "12", "creation_content": creators });
    let room = alice.post(CREATE, request).await.ok();
    for user in [&alice.user_id, &bob.user_id] {
        let levels = json!({ "users": { user: 100 } });
        let path = room_path(&room, "state/m.room.power_levels");
        alice.put(&path, levels).await.err(400, "M_BAD_JSON");
    }
}

#[tokio::test]
async fn a_second_create_event_is_a_bad_request() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for version in ["11", "12"] {
        let room = alice.post(CREATE, json!({ "room_version": version })).await.ok();
        let create = json!({ "room_version": version, "more": 1 });
        alice.put(&room_path(&room, "state/m.room.create"), create).await.err(400, "M_BAD_JSON");
    }
}

/// Who lets somebody in is ours to say; a client's word for it made the event malformed.
#[tokio::test]
async fn a_client_does_not_say_who_authorises_a_join() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = alice.post(CREATE, json!({})).await.ok();
    let path = room_path(&room, &format!("state/m.room.member/{}", alice.user_id));
    let joined = json!({
        "membership": "join", "displayname": "Al", "join_authorised_via_users_server": "unused",
    });
    alice.put(&path, joined).await.ok();
}

async fn sync(client: &Client, since: Option<&Value>) -> Value {
    let since = since.and_then(Value::as_str).map(|since| format!("since={since}"));
    let path = format!("/_matrix/client/v3/sync?{}", since.unwrap_or_default());
    client.get(&path).await.ok()
}

async fn joined_room(owner: &Client, guest: &Client) -> Value {
    let room = owner.post(CREATE, json!({ "preset": "public_chat" })).await.ok();
    guest.post(&room_path(&room, "join"), json!({})).await.ok();
    room
}

#[tokio::test]
async fn push_rules_come_with_the_first_sync_of_one_who_never_changed_them() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let answer = sync(&alice, None).await;
    let events = answer["account_data"]["events"].as_array().unwrap();
    let rules = events.iter().find(|event| event["type"] == "m.push_rules").unwrap();
    assert!(rules["content"]["global"]["underride"].is_array());
}

#[tokio::test]
async fn related_events_go_on_from_a_token_of_sync() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = alice.post(CREATE, json!({})).await.ok();
    let send = |txn: &str| room_path(&room, &format!("send/m.room.message/{txn}"));
    let parent = alice.put(&send("1"), json!({ "body": "parent" })).await.ok();
    let related = json!({ "rel_type": "m.reference", "event_id": parent["event_id"] });
    let child = json!({ "body": "child", "m.relates_to": related });
    alice.put(&send("2"), child.clone()).await.ok();
    let token = sync(&alice, None).await["next_batch"].clone();
    let later = alice.put(&send("3"), child).await.ok();
    let path = format!(
        "{}?dir=f&from={}",
        room_path(&room, &format!("relations/{}", parent["event_id"].as_str().unwrap())),
        token.as_str().unwrap()
    );
    let page = alice.get(&path.replace("/v3/", "/v1/")).await.ok();
    let ids: Vec<_> = page["chunk"].as_array().unwrap().iter().map(|e| &e["event_id"]).collect();
    assert_eq!(ids, [&later["event_id"]]);
}

/// They were looked up as of the oldest event of the page: before anybody was in the room.
#[tokio::test]
async fn a_page_to_the_beginning_of_a_room_has_its_senders() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = joined_room(&alice, &bob).await;
    let filter = "%7B%22lazy_load_members%22%3Atrue%7D";
    let path = format!("messages?dir=b&limit=100&filter={filter}");
    let page = alice.get(&room_path(&room, &path)).await.ok();
    let mut members: Vec<_> = page["state"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["state_key"].as_str().unwrap())
        .collect();
    members.sort_unstable();
    assert_eq!(members, [&alice.user_id, &bob.user_id]);
}

#[tokio::test]
async fn presence_of_newcomers_is_shown_both_ways() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    sync(&alice, None).await;
    let of_bob = sync(&bob, None).await;
    let of_alice = sync(&alice, None).await;
    joined_room(&alice, &bob).await;
    for (client, before, other) in [(&alice, of_alice, &bob), (&bob, of_bob, &alice)] {
        // With the first answer that tells of the room.
        let answer = sync(client, Some(&before["next_batch"])).await;
        let events = answer["presence"]["events"].as_array().unwrap();
        let shown: Vec<_> = events.iter().map(|event| &event["sender"]).collect();
        assert_eq!(shown, [&json!(other.user_id)]);
        let again = sync(client, Some(&answer["next_batch"])).await;
        assert_eq!(again["presence"]["events"], Value::Null);
    }
}

/// A client that was in the room before would have joined two stretches with a gap between.
#[tokio::test]
async fn the_timeline_of_a_room_joined_again_begins_anew() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = joined_room(&alice, &bob).await;
    bob.post(&room_path(&room, "leave"), json!({})).await.ok();
    let before = sync(&bob, None).await;
    bob.post(&room_path(&room, "join"), json!({})).await.ok();
    let answer = sync(&bob, Some(&before["next_batch"])).await;
    let timeline = &answer["rooms"]["join"][room["room_id"].as_str().unwrap()]["timeline"];
    assert_eq!(timeline["limited"], true);
}

async fn event(client: &Client, room: &Value, body: &str) -> String {
    let path = room_path(room, &format!("send/m.room.message/{body}"));
    let sent = client.put(&path, json!({ "msgtype": "m.text", "body": body }));
    text(&sent.await.ok()["event_id"]).to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[tokio::test]
async fn members_before_a_room_began_are_none() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let before = sync(&alice, None).await["next_batch"].clone();
    let bob = server.user("bob").await;
    let room = joined_room(&alice, &bob).await;
    let path = room_path(&room, &format!("members?at={}", text(&before)));
    assert_eq!(alice.get(&path).await.ok()["chunk"], json!([]));
    let first = sync(&alice, None).await["rooms"]["join"][text(&room["room_id"])].clone();
    let begin = text(&first["timeline"]["prev_batch"]);
    let members = alice.get(&room_path(&room, &format!("members?at={begin}"))).await.ok();
    assert_eq!(members["chunk"].as_array().map(Vec::len), Some(1), "{members}");
    let all = alice.get(&room_path(&room, "members")).await.ok();
    assert_eq!(all["chunk"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn members_who_came_later_are_hidden_from_those_who_left() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    let room = joined_room(&alice, &bob).await;
    bob.post(&room_path(&room, "leave"), json!({})).await.ok();
    eve.post(&format!("/_matrix/client/v3/join/{}", text(&room["room_id"])), json!({})).await.ok();
    let now = sync(&bob, None).await["next_batch"].clone();
    let path = room_path(&room, &format!("members?at={}", text(&now)));
    let seen = bob.get(&path).await.ok().to_string();
    assert!(seen.contains(&bob.user_id) && !seen.contains(&eve.user_id), "{seen}");
}

#[tokio::test]
async fn a_proof_as_another_user_is_forbidden() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let path = format!("/_matrix/client/v3/devices/{}", alice.another_device().await.device_id);
    let asked = alice.delete(&path, Some(json!({}))).await;
    assert_eq!(asked.status, 401);
    let proof = |user: &Client, name: &str| {
        json!({ "auth": {
            "type": "m.login.password", "password": format!("password-{name}"),
            "identifier": { "type": "m.id.user", "user": user.user_id },
            "session": asked.body["session"],
        } })
    };
    alice.delete(&path, Some(proof(&bob, "bob"))).await.err(403, "M_FORBIDDEN");
    // A session is for one request.
    let mut password = proof(&alice, "alice");
    password["new_password"] = json!("a very good one");
    alice.post("/_matrix/client/v3/account/password", password).await.err(403, "M_FORBIDDEN");
    alice.delete(&path, Some(proof(&alice, "alice"))).await.ok();
}

#[tokio::test]
async fn a_join_keeps_what_the_client_adds() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let request = json!({ "preset": "public_chat" });
    let room = alice.post(CREATE, request).await.ok();
    let request = json!({
        "foo": "bar", "reason": "curious", "membership": "ban",
        "third_party_signed": {
            "sender": "@a:b", "mxid": "@c:d", "token": "t", "signatures": { "b": { "ed25519:k": "s" } },
        },
    });
    bob.post(&format!("/_matrix/client/v3/join/{}", text(&room["room_id"])), request).await.ok();
    let path = room_path(&room, &format!("state/m.room.member/{}", bob.user_id));
    let content = bob.get(&path).await.ok();
    let expected = json!({ "membership": "join", "foo": "bar", "reason": "curious" });
    assert_eq!(content, expected);
}

#[tokio::test]
async fn only_an_empty_page_says_that_there_is_no_more() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = alice.post(CREATE, json!({})).await.ok();
    let all = alice.get(&room_path(&room, "messages?dir=b&limit=100")).await.ok();
    let count = all["chunk"].as_array().unwrap().len();
    for limit in [count - 1, count, count + 10] {
        let page =
            alice.get(&room_path(&room, &format!("messages?dir=b&limit={limit}"))).await.ok();
        assert_eq!(page["chunk"].as_array().unwrap().len(), limit.min(count));
        let end = text(&page["end"]);
        let next = alice.get(&room_path(&room, &format!("messages?dir=b&from={end}"))).await.ok();
        let left = next["chunk"].as_array().unwrap().len();
        assert_eq!((left, next.get("end").is_none()), (count - limit.min(count), left == 0));
    }
}

#[tokio::test]
async fn who_may_not_look_hears_that_first() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = alice.post(CREATE, json!({})).await.ok();
    bob.get(&room_path(&room, "messages")).await.err(403, "M_FORBIDDEN");
    alice.get(&room_path(&room, "messages")).await.err(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn a_published_room_shows_that_all_may_join() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let request = json!({ "preset": "public_chat", "visibility": "public" });
    alice.post(CREATE, request).await.ok();
    let list = alice.get("/_matrix/client/v3/publicRooms").await.ok();
    assert_eq!(list["chunk"][0]["join_rule"], "public");
}

#[tokio::test]
async fn a_receipt_names_its_thread_with_text() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = joined_room(&alice, &bob).await;
    let event = event(&alice, &room, "a").await;
    let path = room_path(&room, &format!("receipt/m.read/{event}"));
    for thread in [json!(42), json!(null), json!(""), json!({}), json!("$elsewhere")] {
        let body = json!({ "thread_id": thread });
        let answer = bob.post(&path, body).await;
        if thread.is_null() {
            answer.ok();
        } else {
            answer.err(400, "M_INVALID_PARAM");
        }
    }
}

#[tokio::test]
async fn who_is_ignored_does_not_notify() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = joined_room(&alice, &bob).await;
    let path =
        format!("/_matrix/client/v3/user/{}/account_data/m.ignored_user_list", alice.user_id);
    let unread = async || {
        let answer = sync(&alice, None).await;
        answer["rooms"]["join"][text(&room["room_id"])]["unread_notifications"].clone()
    };
    event(&bob, &room, "one").await;
    assert_eq!(unread().await["notification_count"], 1);
    let list = json!({ "ignored_users": { bob.user_id.clone(): {} } });
    alice.put(&path, list).await.ok();
    event(&bob, &room, "two").await;
    let mention = json!({
        "msgtype": "m.text", "body": "alice", "m.mentions": { "user_ids": [alice.user_id] },
    });
    bob.put(&room_path(&room, "send/m.room.message/three"), mention).await.ok();
    // What he said before does not count any more, either.
    assert_eq!(unread().await, json!({ "notification_count": 0, "highlight_count": 0 }));
    alice.put(&path, json!({ "ignored_users": {} })).await.ok();
    event(&bob, &room, "four").await;
    assert_eq!(unread().await["notification_count"], 2);
}

#[tokio::test]
async fn what_an_erased_user_said_is_hidden_from_newcomers() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    let room = joined_room(&alice, &bob).await;
    let said = event(&bob, &room, "secret").await;
    let request = json!({ "erase": true, "auth": {
        "type": "m.login.password", "password": "password-bob",
        "identifier": { "type": "m.id.user", "user": bob.user_id },
    } });
    bob.post("/_matrix/client/v3/account/deactivate", request).await.ok();
    eve.post(&room_path(&room, "join"), json!({})).await.ok();
    let path = room_path(&room, &format!("event/{said}"));
    assert_eq!(alice.get(&path).await.ok()["content"]["body"], "secret");
    assert_eq!(eve.get(&path).await.ok()["content"], json!({}));
    let page = eve.get(&room_path(&room, "messages?dir=b&limit=50")).await.ok();
    assert!(!page.to_string().contains("secret"), "{page}");
}

#[tokio::test]
async fn other_devices_hear_of_a_room_that_was_left_and_forgotten() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = alice.post(CREATE, json!({})).await.ok();
    let before = sync(&alice, None).await["next_batch"].clone();
    alice.post(&room_path(&room, "leave"), json!({})).await.ok();
    alice.post(&room_path(&room, "forget"), json!({})).await.ok();
    let answer = sync(&alice, Some(&before)).await;
    assert!(answer["rooms"]["leave"].get(text(&room["room_id"])).is_some(), "{answer}");
    let filter = "%7B%22room%22%3A%7B%22include_leave%22%3Atrue%7D%7D";
    let path = format!("/_matrix/client/v3/sync?filter={filter}");
    assert!(alice.get(&path).await.ok()["rooms"]["leave"].is_null());
}
