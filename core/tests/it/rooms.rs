//! Rooms through the API: making them, coming and going, sending, and every refusal.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

/// Every room version served.
const VERSIONS: [&str; 12] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"];

fn id_of(answer: &Value) -> String {
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn create(client: &Client, request: Value) -> String {
    id_of(&client.post("/_matrix/client/v3/createRoom", request).await.ok())
}

fn room_path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encode(room))
}

fn encode(text: &str) -> String {
    let text = text.replace('#', "%23").replace('!', "%21").replace(':', "%3A").replace('$', "%24");
    text.replace('/', "%2F").replace('+', "%2B")
}

#[tokio::test]
async fn a_room_of_every_version_lives() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    for version in VERSIONS {
        let request = json!({
            "room_version": version, "preset": "public_chat", "name": "Square",
            "topic": "Everything", "room_alias_name": format!("square{version}"),
            "invite": [bob.user_id],
        });
        let room = create(&alice, request).await;
        let joined = bob.post(&room_path(&room, "join"), json!({})).await.ok();
        assert_eq!(id_of(&joined), room);
        let send = room_path(&room, "send/m.room.message/t1");
        let hello = json!({ "msgtype": "m.text", "body": "hello" });
        let first = bob.put(&send, hello.clone()).await.ok();
        let again = bob.put(&send, hello.clone()).await.ok();
        assert_eq!(first, again, "a replayed transaction id gives the same answer");
        let other = alice.put(&send, hello).await.ok();
        assert_ne!(first, other, "transaction ids belong to a device");
        let name = json!({ "name": "Circle" });
        bob.put(&room_path(&room, "state/m.room.name"), name.clone()).await.err(403, "M_FORBIDDEN");
        let renamed = alice.put(&room_path(&room, "state/m.room.name/"), name.clone()).await.ok();
        let same = alice.put(&room_path(&room, "state/m.room.name"), name).await.ok();
        assert_eq!(renamed, same, "state that changes nothing is not sent again");
        let event = first["event_id"].as_str().unwrap();
        let redact = room_path(&room, &format!("redact/{}/r1", encode(event)));
        let once = bob.put(&redact, json!({ "reason": "typo" })).await.ok();
        assert_eq!(once, bob.put(&redact, json!({ "reason": "typo" })).await.ok());
        bob.post(&room_path(&room, "leave"), json!({})).await.ok();
        bob.post(&room_path(&room, "leave"), json!({})).await.ok();
        bob.put(&room_path(&room, "send/m.room.message/t2"), json!({ "body": "x" }))
            .await
            .err(403, "M_FORBIDDEN");
        bob.post(&room_path(&room, "forget"), json!({})).await.ok();
    }
    let rooms = alice.get("/_matrix/client/v3/joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"].as_array().unwrap().len(), VERSIONS.len());
    let rooms = bob.get("/_matrix/client/v3/joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn transaction_ids_survive_a_restart() {
    let server = TestServer::start().await;
    let mut alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let path = room_path(&room, "send/m.room.message/again");
    let first = alice.put(&path, json!({ "body": "one" })).await.ok();
    let other_type = room_path(&room, "send/org.example.other/again");
    let other = alice.put(&other_type, json!({ "body": "one" })).await.ok();
    assert_ne!(first, other);
    let server = server.restart().await;
    alice.url = server.url.clone();
    assert_eq!(alice.put(&path, json!({ "body": "one" })).await.ok(), first);
    let new = alice.put(&room_path(&room, "send/m.room.message/new"), json!({})).await.ok();
    assert_ne!(new, first);
}

#[tokio::test]
async fn rooms_that_cannot_be() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let request = |request: Value| alice.post("/_matrix/client/v3/createRoom", request);
    request(json!({ "room_version": "99" })).await.err(400, "M_UNSUPPORTED_ROOM_VERSION");
    request(json!({ "room_version": "0" })).await.err(400, "M_UNSUPPORTED_ROOM_VERSION");
    request(json!({ "room_version": 12 })).await.err(400, "M_BAD_JSON");
    request(json!({ "invite": "@bob:localhost" })).await.err(400, "M_BAD_JSON");
    request(json!({ "invite": ["bob"] })).await.err(400, "M_BAD_JSON");
    request(json!({ "preset": "secret" })).await.err(400, "M_BAD_JSON");
    request(json!({ "room_alias_name": "a:b" })).await.err(400, "M_INVALID_PARAM");
    request(json!({ "room_alias_name": "a b" })).await.err(400, "M_INVALID_PARAM");
    request(json!({ "room_alias_name": "taken" })).await.ok();
    request(json!({ "room_alias_name": "taken" })).await.err(400, "M_ROOM_IN_USE");
    request(json!({ "invite": ["@bob:elsewhere.example"] })).await.err(403, "M_FORBIDDEN");
    let threepid = json!({
        "id_server": "x", "id_access_token": "y", "medium": "email", "address": "a@b.example",
    });
    request(json!({ "invite_3pid": [threepid] })).await.err(403, "M_THREEPID_DENIED");
    let levels = json!({ "users": { "@alice:localhost": 100 } });
    request(json!({ "room_version": "12", "power_level_content_override": levels }))
        .await
        .err(400, "M_INVALID_ROOM_STATE");
    let levels = json!({ "users": { "@alice:localhost": 0 } });
    request(json!({ "room_version": "10", "power_level_content_override": levels }))
        .await
        .err(400, "M_INVALID_ROOM_STATE");
    let state = json!([{ "type": "m.room.create", "content": {} }]);
    let answer = request(json!({ "initial_state": state, "room_version": "11" })).await;
    answer.err(400, "M_INVALID_ROOM_STATE");
    let state = json!([{ "type": "m.room.name", "content": { "name": 1.5 } }]);
    request(json!({ "initial_state": state })).await.err(400, "M_BAD_JSON");
    let rooms = alice.get("/_matrix/client/v3/joined_rooms").await.ok();
    assert_eq!(rooms["joined_rooms"].as_array().unwrap().len(), 1, "nothing is left of the rest");
}

#[tokio::test]
async fn moderation() {
    let server = TestServer::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    let room = create(&alice, json!({ "preset": "private_chat" })).await;
    let who = |client: &Client| json!({ "user_id": client.user_id });
    let path = |rest: &str| room_path(&room, rest);
    bob.post(&path("join"), json!({})).await.err(403, "M_FORBIDDEN");
    bob.post(&path("invite"), who(&carol)).await.err(403, "M_FORBIDDEN");
    bob.post(&path("leave"), json!({})).await.err(403, "M_FORBIDDEN");
    alice.post(&path("kick"), who(&bob)).await.err(403, "M_FORBIDDEN");
    alice.post(&path("unban"), who(&bob)).await.err(403, "M_FORBIDDEN");
    alice.post(&path("invite"), who(&bob)).await.ok();
    alice.post(&path("invite"), who(&bob)).await.ok();
    bob.post(&path("join"), json!({ "reason": "why not" })).await.ok();
    bob.post(&path("join"), json!({})).await.ok();
    alice.post(&path("invite"), who(&bob)).await.err(403, "M_FORBIDDEN");
    bob.post(&path("kick"), who(&alice)).await.err(403, "M_FORBIDDEN");
    bob.post(&path("ban"), who(&carol)).await.err(403, "M_FORBIDDEN");
    bob.post(&path("forget"), json!({})).await.err(400, "M_UNKNOWN");
    alice.post(&path("kick"), who(&bob)).await.ok();
    bob.post(&path("join"), json!({})).await.err(403, "M_FORBIDDEN");
    alice.post(&path("ban"), who(&carol)).await.ok();
    alice.post(&path("invite"), who(&carol)).await.err(403, "M_FORBIDDEN");
    alice.post(&path("kick"), who(&carol)).await.err(403, "M_FORBIDDEN");
    alice.post(&path("unban"), who(&carol)).await.ok();
    alice.post(&path("invite"), who(&carol)).await.ok();
    carol.post(&path("leave"), json!({ "reason": "no" })).await.ok();
    alice
        .post(&path("invite"), json!({ "user_id": "@x:elsewhere.example" }))
        .await
        .err(403, "M_FORBIDDEN");
    alice.post(&path("invite"), json!({ "user_id": "x" })).await.err(400, "M_BAD_JSON");
    let nowhere = room_path("!nowhere:localhost", "join");
    bob.post(&nowhere, json!({})).await.err(403, "M_FORBIDDEN");
    bob.post("/_matrix/client/v3/join/%23none%3Alocalhost", json!({}))
        .await
        .err(404, "M_NOT_FOUND");
    let send = room_path("!nowhere:localhost", "send/m.room.message/1");
    bob.put(&send, json!({ "body": "x" })).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn restricted_rooms_and_knocks() {
    let server = TestServer::start().await;
    let (alice, bob, carol) =
        (server.user("alice").await, server.user("bob").await, server.user("carol").await);
    for version in ["8", "10", "12"] {
        let club = create(&alice, json!({ "preset": "public_chat" })).await;
        bob.post(&room_path(&club, "join"), json!({})).await.ok();
        let rule = json!({
            "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": club }],
        });
        let state = json!([{ "type": "m.room.join_rules", "content": rule }]);
        let room = create(&alice, json!({ "room_version": version, "initial_state": state })).await;
        carol.post(&room_path(&room, "join"), json!({})).await.err(403, "M_FORBIDDEN");
        bob.post(&room_path(&room, "join"), json!({})).await.ok();
        bob.post(&room_path(&room, "leave"), json!({})).await.ok();
        let own = room_path(&room, &format!("state/m.room.member/{}", bob.user_id));
        bob.put(&own, json!({ "membership": "join" })).await.ok();
    }
    let state = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = create(&alice, json!({ "initial_state": state })).await;
    let knock = format!("/_matrix/client/v3/knock/{}", encode(&room));
    let knocked = bob.post(&knock, json!({ "reason": "please" })).await.ok();
    assert_eq!(id_of(&knocked), room);
    bob.post(&room_path(&room, "join"), json!({})).await.err(403, "M_FORBIDDEN");
    alice.post(&room_path(&room, "invite"), json!({ "user_id": bob.user_id })).await.ok();
    bob.post(&room_path(&room, "join"), json!({})).await.ok();
    let open = create(&alice, json!({ "preset": "public_chat" })).await;
    let knock = format!("/_matrix/client/v3/knock/{}", encode(&open));
    carol.post(&knock, json!({})).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn events_that_cannot_be_sent() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    bob.post(&room_path(&room, "join"), json!({})).await.ok();
    let send = |txn: &str| room_path(&room, &format!("send/m.room.message/{txn}"));
    let long = json!({ "body": "x".repeat(70_000) });
    alice.put(&send("1"), long).await.err(413, "M_TOO_LARGE");
    alice.put(&send("2"), json!({ "body": 1.5 })).await.err(400, "M_BAD_JSON");
    alice.put(&send("3"), json!([1])).await.err(400, "M_BAD_JSON");
    alice.put(&send(&"x".repeat(300)), json!({})).await.err(400, "M_INVALID_PARAM");
    let long_type = room_path(&room, &format!("send/{}/4", "t".repeat(300)));
    alice.put(&long_type, json!({})).await.err(413, "M_TOO_LARGE");
    let missing = room_path(&room, &format!("redact/{}/5", encode("$none")));
    alice.put(&missing, json!({})).await.err(404, "M_NOT_FOUND");
    let hello = alice.put(&send("6"), json!({ "body": "hello" })).await.ok();
    let hello = hello["event_id"].as_str().unwrap();
    let redact = room_path(&room, &format!("redact/{}/7", encode(hello)));
    bob.put(&redact, json!({})).await.err(403, "M_FORBIDDEN");
    let react = |txn: &str| room_path(&room, &format!("send/m.reaction/{txn}"));
    let relates = json!({ "rel_type": "m.annotation", "event_id": hello, "key": "+1" });
    let reaction = json!({ "m.relates_to": relates });
    bob.put(&react("8"), reaction.clone()).await.ok();
    bob.put(&react("9"), reaction.clone()).await.err(400, "M_DUPLICATE_ANNOTATION");
    alice.put(&react("10"), reaction).await.ok();
    let relates = json!({ "rel_type": "m.thread", "event_id": hello });
    let reply = json!({ "body": "re", "m.relates_to": relates });
    let reply = bob.put(&send("11"), reply).await.ok();
    let relates = json!({ "rel_type": "m.thread", "event_id": reply["event_id"] });
    bob.put(&send("12"), json!({ "m.relates_to": relates })).await.err(400, "M_UNKNOWN");
    let member = room_path(&room, &format!("state/m.room.member/{}", alice.user_id));
    bob.put(&member, json!({ "membership": "leave" })).await.err(403, "M_FORBIDDEN");
    bob.put(&member, json!({ "membership": 5 })).await.err(400, "M_BAD_JSON");
    let alias = room_path(&room, "state/m.room.canonical_alias");
    alice.put(&alias, json!({ "alias": "#none:localhost" })).await.err(400, "M_BAD_ALIAS");
    alice.put(&alias, json!({ "alias": "none" })).await.err(400, "M_INVALID_PARAM");
    alice.put(&alias, json!({ "alias": 5 })).await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn upgrades() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for (old, new) in [("10", "12"), ("11", "11"), ("12", "11"), ("12", "12")] {
        let alias = format!("up{old}{new}");
        let request = json!({
            "room_version": old, "name": "Hall", "room_alias_name": alias,
            "preset": "public_chat",
        });
        let room = create(&alice, request).await;
        bob.post(&room_path(&room, "join"), json!({})).await.ok();
        let upgrade = room_path(&room, "upgrade");
        bob.post(&upgrade, json!({ "new_version": new })).await.err(403, "M_FORBIDDEN");
        alice
            .post(&upgrade, json!({ "new_version": "0" }))
            .await
            .err(400, "M_UNSUPPORTED_ROOM_VERSION");
        let answer = alice.post(&upgrade, json!({ "new_version": new })).await.ok();
        let replacement = answer["replacement_room"].as_str().unwrap();
        assert_ne!(replacement, room);
        let joined = format!("/_matrix/client/v3/join/{}", encode(&format!("#{alias}:localhost")));
        assert_eq!(id_of(&bob.post(&joined, json!({})).await.ok()), replacement);
        let send = room_path(&room, "send/m.room.message/late");
        bob.put(&send, json!({ "body": "anybody here?" })).await.err(403, "M_FORBIDDEN");
    }
}

#[tokio::test]
async fn what_a_user_keeps_about_a_room_follows_into_its_replacement() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    bob.post(&room_path(&room, "join"), json!({})).await.ok();
    let user = |user: &Client, rest: &str| {
        format!("/_matrix/client/v3/user/{}/{rest}", encode(&user.user_id))
    };
    let tag = |user_: &Client, room: &str| user(user_, &format!("rooms/{}/tags", encode(room)));
    let rules = "/_matrix/client/v3/pushrules/global";
    for who in [&alice, &bob] {
        let place = format!("{}/m.favourite", tag(who, &room));
        who.put(&place, json!({ "order": 0.5 })).await.ok();
        let direct = json!({ "@carol:localhost": [room, "!other:localhost"] });
        who.put(&user(who, "account_data/m.direct"), direct).await.ok();
        let quiet = json!({ "actions": [] });
        who.put(&format!("{rules}/room/{}", encode(&room)), quiet.clone()).await.ok();
        let condition = json!({ "kind": "event_match", "key": "room_id", "pattern": room });
        let quiet = json!({ "actions": [], "conditions": [condition] });
        who.put(&format!("{rules}/override/{}", encode(&room)), quiet).await.ok();
    }
    let answer = alice.post(&room_path(&room, "upgrade"), json!({ "new_version": "12" })).await;
    let new = answer.ok()["replacement_room"].as_str().unwrap().to_owned();
    let none = json!({ "tags": {} });
    assert_eq!(bob.get(&tag(&bob, &new)).await.ok(), none, "he has not come in yet");
    bob.post(&room_path(&new, "join"), json!({})).await.ok();
    for who in [&alice, &bob] {
        let tags = who.get(&tag(who, &new)).await.ok();
        assert_eq!(tags["tags"]["m.favourite"]["order"], 0.5);
        let direct = who.get(&user(who, "account_data/m.direct")).await.ok();
        assert_eq!(direct["@carol:localhost"], json!([room, "!other:localhost", new]));
        let rule = who.get(&format!("{rules}/room/{}", encode(&new))).await.ok();
        assert_eq!(rule["actions"], json!([]));
        let rule = who.get(&format!("{rules}/override/{}", encode(&new))).await.ok();
        assert_eq!(rule["conditions"][0]["pattern"], new);
    }
    // Only coming in counts: what he has taken off stays off.
    bob.delete(&format!("{}/m.favourite", tag(&bob, &new)), None).await.ok();
    bob.post(&room_path(&new, "join"), json!({})).await.ok();
    assert_eq!(bob.get(&tag(&bob, &new)).await.ok(), none);
}

#[tokio::test]
async fn without_a_transaction_id_every_request_is_a_new_event() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let stranger = server.user("stranger").await;
    let room = create(&alice, json!({})).await;
    let hello = json!({ "msgtype": "m.text", "body": "hello" });
    for version in ["v3", "r0"] {
        let below = format!("/_matrix/client/{version}/rooms/{}", encode(&room));
        let send = format!("{below}/send/m.room.message");
        let first = alice.post(&send, hello.clone()).await.ok();
        let second = alice.post(&send, hello.clone()).await.ok();
        assert_ne!(first, second);
        let event_id = encode(first["event_id"].as_str().unwrap());
        let shown = alice.get(&room_path(&room, &format!("event/{event_id}"))).await.ok();
        assert_eq!(shown["content"], hello);
        assert_eq!(shown["unsigned"].get("transaction_id"), None);
        let redact = format!("{below}/redact/{event_id}");
        let once = alice.post(&redact, json!({ "reason": "typo" })).await.ok();
        let twice = alice.post(&redact, json!({ "reason": "typo" })).await.ok();
        assert_ne!(once, twice);
        let shown = alice.get(&room_path(&room, &format!("event/{event_id}"))).await.ok();
        assert_eq!(shown["content"], json!({}));
        assert_eq!(shown["unsigned"]["redacted_because"]["content"]["reason"], "typo");
        alice.post(&send, json!([])).await.err(400, "M_BAD_JSON");
        alice.put(&send, hello.clone()).await.err(405, "M_UNRECOGNIZED");
        stranger.post(&send, hello.clone()).await.err(403, "M_FORBIDDEN");
        stranger.post(&redact, json!({})).await.err(403, "M_FORBIDDEN");
    }
}
