//! Sliding sync, in both dialects.

mod beside;
mod lists;
mod state;
mod told;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::warm::World;

const V3: &str = "/_matrix/client/v3";
const UNSTABLE: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
const V4: &str = "/_matrix/client/v4/sync";

async fn create(client: &Client, body: Value) -> String {
    let room = client.post(&format!("{V3}/createRoom"), body).await.ok();
    room["room_id"].as_str().unwrap().to_owned()
}

async fn public_room(client: &Client, name: &str) -> String {
    create(client, json!({ "preset": "public_chat", "name": name })).await
}

async fn join(client: &Client, room: &str) {
    client.post(&format!("{V3}/join/{room}"), json!({})).await.ok();
}

async fn say(client: &Client, room: &str, text: &str) -> String {
    let path = format!("{V3}/rooms/{room}/send/m.room.message/{text}");
    let sent = client.put(&path, json!({ "msgtype": "m.text", "body": text })).await.ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

async fn set(client: &Client, room: &str, event_type: &str, content: Value) {
    client.put(&format!("{V3}/rooms/{room}/state/{event_type}"), content).await.ok();
}

/// Asks by the unstable path; `pos` is empty at first.
async fn slide(client: &Client, pos: &str, timeout: u64, body: &Value) -> Value {
    let query = if pos.is_empty() { String::new() } else { format!("&pos={pos}") };
    client.post(&format!("{UNSTABLE}?timeout={timeout}{query}"), body.clone()).await.ok()
}

fn pos(answer: &Value) -> String {
    answer["pos"].as_str().unwrap().to_owned()
}

/// One list of the first rooms.
fn list(last: usize, timeline_limit: usize) -> Value {
    json!({ "lists": { "all": {
        "ranges": [[0, last]], "timeline_limit": timeline_limit,
        "required_state": [["m.room.create", ""], ["m.room.member", "$ME"]],
    } } })
}

fn bodies(room: &Value) -> Vec<&str> {
    let events = room["timeline"].as_array().into_iter().flatten();
    events.filter_map(|event| event["content"]["body"].as_str()).collect()
}

fn state(room: &Value) -> Vec<String> {
    let events = room["required_state"].as_array().into_iter().flatten();
    let mut names: Vec<String> = events
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            format!("{}/{}", text("type"), text("state_key"))
        })
        .collect();
    names.sort();
    names
}

fn rooms(answer: &Value) -> Vec<&String> {
    answer["rooms"].as_object().into_iter().flatten().map(|(room, _)| room).collect()
}

#[tokio::test]
async fn a_window_moves_over_the_rooms_in_the_order_of_what_was_said_last() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let mut made = Vec::new();
    for name in ["one", "two", "three"] {
        made.push(public_room(&alice, name).await);
    }
    let answer = slide(&alice, "", 0, &list(1, 1)).await;
    assert_eq!(answer["lists"]["all"]["count"], 3);
    let told = &answer["rooms"][&made[2]];
    assert_eq!(rooms(&answer).len(), 2, "{answer}");
    assert_eq!((&told["initial"], &told["name"]), (&json!(true), &json!("three")));
    assert_eq!((&told["joined_count"], &told["invited_count"]), (&json!(1), &json!(0)));
    assert_eq!((&told["limited"], &told["num_live"]), (&json!(true), &json!(0)));
    assert_eq!(told["timeline"].as_array().unwrap().len(), 1);
    assert_eq!(
        state(told),
        ["m.room.create/".to_owned(), format!("m.room.member/{}", alice.user_id)]
    );
    assert!(answer["rooms"].get(&made[0]).is_none(), "it is below the window");
    // More of the list: only what was not told before.
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 1)).await;
    assert_eq!(rooms(&answer), [&made[0]], "{answer}");
    // A word in a room brings it, and only what is new of it.
    say(&alice, &made[0], "hello").await;
    let answer = slide(&alice, &pos(&answer), 0, &list(0, 5)).await;
    let told = &answer["rooms"][&made[0]];
    assert_eq!(told.get("initial"), None, "{answer}");
    assert_eq!((bodies(told), &told["num_live"]), (vec!["hello"], &json!(1)), "{answer}");
    assert_eq!(told["unstable_expanded_timeline"], true, "five are wanted, where one was told");
    // What moved outside of the window comes when it is looked at.
    say(&alice, &made[1], "a").await;
    say(&alice, &made[2], "b").await;
    let answer = slide(&alice, &pos(&answer), 0, &list(0, 5)).await;
    assert_eq!(rooms(&answer), [&made[2]], "{answer}");
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(rooms(&answer), [&made[1]], "{answer}");
    assert!(bodies(&answer["rooms"][&made[1]]).contains(&"a"), "{answer}");
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(rooms(&answer).len(), 0, "{answer}");
}

#[tokio::test]
async fn news_wake_who_waits() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = public_room(&alice, "one").await;
    join(&bob, &room).await;
    let answer = slide(&bob, "", 10_000, &list(9, 10)).await;
    let (waits, at) = (bob.clone(), pos(&answer));
    let began = Instant::now();
    let waiting = tokio::spawn(async move { slide(&waits, &at, 30_000, &list(9, 10)).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    say(&alice, &room, "hello").await;
    let answer = waiting.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(bodies(&answer["rooms"][&room]), ["hello"], "{answer}");
    // Nothing happens: the answer comes when the time is over, and says where to go on.
    let again = slide(&bob, &pos(&answer), 200, &list(9, 10)).await;
    assert_eq!(rooms(&again).len(), 0, "{again}");
    assert_ne!(pos(&again), pos(&answer));
}

#[tokio::test]
async fn a_position_is_good_twice_and_then_unknown() {
    let server = TestServer::start().await;
    let (alice, other) = (server.user("alice").await, server.user("other").await);
    let room = public_room(&alice, "one").await;
    let first = slide(&alice, "", 0, &list(9, 5)).await;
    say(&alice, &room, "hello").await;
    let lost = slide(&alice, &pos(&first), 0, &list(9, 5)).await;
    let again = slide(&alice, &pos(&first), 0, &list(9, 5)).await;
    assert_eq!(bodies(&again["rooms"][&room]), ["hello"], "the answer was lost: {again}");
    slide(&alice, &pos(&again), 0, &list(9, 5)).await;
    let token = pos(&again);
    let token = token.split_once('~').unwrap().0;
    let another = alice.another_device().await;
    let unknown = async |client: &Client, pos: &str| {
        let path = format!("{UNSTABLE}?pos={pos}");
        client.post(&path, list(9, 5)).await.err(400, "M_UNKNOWN_POS");
    };
    for old in [&pos(&first), &pos(&lost), token, "x", "x~1.1", &format!("{token}~1.1")] {
        unknown(&alice, old).await;
    }
    unknown(&other, &pos(&again)).await;
    unknown(&another, &pos(&again)).await;
    // Two connections of one device know nothing of each other.
    let mut named = list(9, 5);
    named["conn_id"] = json!("other");
    let beside = slide(&alice, "", 0, &named).await;
    assert_eq!(rooms(&beside), [&room]);
    slide(&alice, &pos(&beside), 0, &named).await;
    // As a place in a room's history it is good for ever.
    let messages = format!("{V3}/rooms/{room}/messages?dir=b&from={}", pos(&again));
    let page = alice.get(&messages).await.ok();
    assert_eq!(page["chunk"][0]["content"]["body"], "hello", "{page}");
}

#[tokio::test]
async fn state_is_told_as_it_is_wanted() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = public_room(&alice, "one").await;
    join(&bob, &room).await;
    say(&bob, &room, "hello").await;
    let wants = |required: Value, limit: usize| {
        json!({ "room_subscriptions": { &room: {
            "timeline_limit": limit, "required_state": required,
        } } })
    };
    let answer = slide(&alice, "", 0, &wants(json!([["m.room.topic", ""]]), 1)).await;
    assert_eq!(state(&answer["rooms"][&room]).len(), 0, "there is none: {answer}");
    // It comes with its change, and what is not wanted does not.
    set(&alice, &room, "m.room.topic", json!({ "topic": "t" })).await;
    set(&alice, &room, "m.room.other", json!({})).await;
    let answer = slide(&alice, &pos(&answer), 0, &wants(json!([["m.room.topic", ""]]), 1)).await;
    assert_eq!(state(&answer["rooms"][&room]), ["m.room.topic/"], "{answer}");
    // More is wanted: it comes at once, but not what was told.
    let more = json!([["m.room.topic", ""], ["m.room.other", "*"]]);
    let answer = slide(&alice, &pos(&answer), 0, &wants(more, 1)).await;
    assert_eq!(state(&answer["rooms"][&room]), ["m.room.other/"], "{answer}");
    // The members of who speaks, each once.
    let lazy = json!([["m.room.member", "$LAZY"]]);
    let answer = slide(&alice, "", 0, &wants(lazy.clone(), 10)).await;
    let members = [&alice, &bob].map(|user| format!("m.room.member/{}", user.user_id));
    assert_eq!(state(&answer["rooms"][&room]), members, "{answer}");
    say(&bob, &room, "again").await;
    let answer = slide(&alice, &pos(&answer), 0, &wants(lazy.clone(), 10)).await;
    assert_eq!(bodies(&answer["rooms"][&room]), ["again"]);
    assert_eq!(state(&answer["rooms"][&room]).len(), 0, "{answer}");
    let carol = server.user("carol").await;
    join(&carol, &room).await;
    let answer = slide(&alice, &pos(&answer), 0, &wants(lazy, 10)).await;
    let told = &answer["rooms"][&room];
    assert_eq!(state(told), [format!("m.room.member/{}", carol.user_id)], "{answer}");
    assert_eq!(told["joined_count"], 3, "{answer}");
    // Everything, and everything but something, in the words of the accepted proposal.
    let answer = slide(&alice, "", 0, &wants(json!([["*", "*"]]), 0)).await;
    assert!(state(&answer["rooms"][&room]).len() > 8, "{answer}");
    let but = json!({ "include": [{}], "exclude": [{ "type": "m.room.member" }] });
    let body = json!({ "room_subscriptions": { &room: {
        "timeline_limit": 1, "required_state": but,
    } } });
    let answer = alice.post(V4, body).await.ok();
    let told = &answer["rooms"][&room];
    assert_eq!(told["membership"], "join", "{answer}");
    assert_eq!(told["timeline_events"].as_array().unwrap().len(), 1);
    assert!(!state(told).iter().any(|name| name.starts_with("m.room.member")), "{answer}");
}

#[tokio::test]
async fn filters_choose_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let plain = public_room(&alice, "plain").await;
    let secret = public_room(&alice, "secret").await;
    let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
    set(&alice, &secret, "m.room.encryption", algorithm).await;
    let space = create(&alice, json!({ "creation_content": { "type": "m.space" } })).await;
    let child = format!("m.space.child/{plain}");
    set(&alice, &space, &child, json!({ "via": ["localhost"] })).await;
    let invited = create(&bob, json!({ "invite": [alice.user_id], "is_direct": true })).await;
    let data = format!("{V3}/user/{}/account_data/m.direct", alice.user_id);
    alice.put(&data, json!({ &bob.user_id: [secret] })).await.ok();
    let tag = format!("{V3}/user/{}/rooms/{plain}/tags/m.favourite", alice.user_id);
    alice.put(&tag, json!({})).await.ok();
    let passing = async |filters: Value| {
        let body = json!({ "lists": { "a": {
            "ranges": [[0, 9]], "timeline_limit": 0, "required_state": [], "filters": filters,
        } } });
        let answer = slide(&alice, "", 0, &body).await;
        let mut found: Vec<String> = rooms(&answer).into_iter().cloned().collect();
        assert_eq!(answer["lists"]["a"]["count"], found.len());
        found.sort();
        found
    };
    let sorted = |rooms: &[&String]| {
        let mut rooms: Vec<String> = rooms.iter().map(|room| (*room).clone()).collect();
        rooms.sort();
        rooms
    };
    for (filters, expected) in [
        (json!({}), sorted(&[&plain, &secret, &space, &invited])),
        (json!({ "is_invite": true }), sorted(&[&invited])),
        (json!({ "is_invite": false }), sorted(&[&plain, &secret, &space])),
        (json!({ "is_encrypted": true }), sorted(&[&secret])),
        (json!({ "is_dm": true }), sorted(&[&secret])),
        (json!({ "is_dm": false, "is_invite": false }), sorted(&[&plain, &space])),
        (json!({ "room_types": ["m.space"] }), sorted(&[&space])),
        (json!({ "room_types": [null] }), sorted(&[&plain, &secret, &invited])),
        (json!({ "not_room_types": ["m.space"] }), sorted(&[&plain, &secret, &invited])),
        (json!({ "tags": ["m.favourite"] }), sorted(&[&plain])),
        (json!({ "not_tags": ["m.favourite"] }), sorted(&[&secret, &space, &invited])),
        (json!({ "spaces": [space] }), sorted(&[&plain])),
        (json!({ "spaces": ["!none:localhost"] }), sorted(&[])),
    ] {
        assert_eq!(passing(filters.clone()).await, expected, "{filters}");
    }
}

#[tokio::test]
async fn invitations_departures_and_bans_are_told() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = create(&alice, json!({ "name": "one", "invite": [bob.user_id] })).await;
    let first = slide(&bob, "", 0, &list(9, 5)).await;
    let told = &first["rooms"][&room];
    let shown = told["invite_state"].as_array().unwrap();
    assert!(shown.iter().any(|event| event["type"] == "m.room.name"), "{first}");
    assert!(told.get("timeline").is_none() && told.get("name").is_none(), "{first}");
    let answer = slide(&bob, &pos(&first), 0, &list(9, 5)).await;
    assert_eq!(rooms(&answer).len(), 0, "it was told: {answer}");
    join(&bob, &room).await;
    let answer = slide(&bob, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(answer["rooms"][&room]["initial"], true, "{answer}");
    assert_eq!(answer["rooms"][&room]["name"], "one");
    // Who leaves is told once, where the room was told of; a new connection has nothing of it.
    bob.post(&format!("{V3}/rooms/{room}/leave"), json!({})).await.ok();
    let answer = slide(&bob, &pos(&answer), 0, &list(9, 5)).await;
    let last = answer["rooms"][&room]["timeline"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["content"]["membership"], "leave", "{answer}");
    let answer = slide(&bob, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(rooms(&answer).len(), 0, "{answer}");
    assert_eq!(rooms(&slide(&bob, "", 0, &list(9, 5)).await).len(), 0);
    // Who is banned is told anywhere, but nothing of what follows.
    let hall = public_room(&alice, "hall").await;
    join(&bob, &hall).await;
    let banned = json!({ "user_id": bob.user_id });
    alice.post(&format!("{V3}/rooms/{hall}/ban"), banned).await.ok();
    say(&alice, &hall, "secret").await;
    let answer = slide(&bob, "", 0, &list(9, 5)).await;
    let told = &answer["rooms"][&hall];
    let last = told["timeline"].as_array().unwrap().last().unwrap();
    assert_eq!(last["content"]["membership"], "ban", "{answer}");
    assert!(told.get("joined_count").is_none() && told.get("heroes").is_none(), "{answer}");
    // One who never was in it is not told of its ban.
    let carol = server.user("carol").await;
    let unknown = json!({ "user_id": carol.user_id });
    alice.post(&format!("{V3}/rooms/{hall}/ban"), unknown).await.ok();
    assert_eq!(rooms(&slide(&carol, "", 0, &list(9, 5)).await).len(), 0);
    // Nobody subscribes to what he may not see.
    let body = json!({ "room_subscriptions": { &room: {
        "timeline_limit": 5, "required_state": [["*", "*"]],
    } } });
    assert_eq!(rooms(&slide(&carol, "", 0, &body).await).len(), 0);
}

#[tokio::test]
async fn a_room_without_a_name_has_heroes_and_counts() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let name = format!("{V3}/profile/{}/displayname", bob.user_id);
    bob.put(&name, json!({ "displayname": "Bob" })).await.ok();
    let room = create(&alice, json!({ "preset": "trusted_private_chat" })).await;
    alice.post(&format!("{V3}/rooms/{room}/invite"), json!({ "user_id": bob.user_id })).await.ok();
    join(&bob, &room).await;
    say(&bob, &room, "hello").await;
    let answer = slide(&alice, "", 0, &list(9, 5)).await;
    let told = &answer["rooms"][&room];
    let heroes = json!([{ "user_id": bob.user_id, "displayname": "Bob" }]);
    assert_eq!(told["heroes"], heroes, "{answer}");
    assert_eq!((&told["notification_count"], &told["joined_count"]), (&json!(1), &json!(2)));
    let before = told["bump_stamp"].as_i64().unwrap();
    set(&alice, &room, "m.room.topic", json!({ "topic": "t" })).await;
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(answer["rooms"][&room]["bump_stamp"], before, "a topic moves no room: {answer}");
    set(&alice, &room, "m.room.name", json!({ "name": "n" })).await;
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(answer["rooms"][&room]["name"], "n", "{answer}");
    set(&alice, &room, "m.room.name", json!({})).await;
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 5)).await;
    let told = &answer["rooms"][&room];
    assert!(told["name"].is_null() && told.get("name").is_some(), "{answer}");
    assert_eq!(told["heroes"], heroes, "{answer}");
    let data = format!("{V3}/user/{}/account_data/m.direct", alice.user_id);
    alice.put(&data, json!({ &bob.user_id: [room] })).await.ok();
    let answer = slide(&alice, &pos(&answer), 0, &list(9, 5)).await;
    assert_eq!(answer["rooms"][&room]["is_dm"], true, "{answer}");
}

#[tokio::test]
async fn what_is_wanted_beside_rooms_is_told() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = public_room(&alice, "one").await;
    join(&bob, &room).await;
    let event = say(&alice, &room, "hello").await;
    let tag = format!("{V3}/user/{}/rooms/{room}/tags/m.favourite", alice.user_id);
    alice.put(&tag, json!({})).await.ok();
    let mut body = list(9, 5);
    let on = json!({ "enabled": true });
    body["extensions"] = json!({
        "to_device": on, "e2ee": on, "account_data": on, "receipts": on, "typing": on,
    });
    let first = slide(&alice, "", 0, &body).await;
    let beside = &first["extensions"];
    let global = beside["account_data"]["global"].as_array().unwrap();
    assert!(global.iter().any(|data| data["type"] == "m.push_rules"), "{first}");
    assert_eq!(beside["account_data"]["rooms"][&room][0]["type"], "m.tag", "{first}");
    assert_eq!(beside["e2ee"]["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert!(beside["to_device"]["next_batch"].is_string(), "{first}");
    let nothing = slide(&alice, &pos(&first), 100, &body).await;
    assert!(nothing["extensions"].get("account_data").is_none(), "{nothing}");
    // A receipt, who types, a message to the device, account data: each once.
    let path = format!("{V3}/rooms/{room}/receipt/m.read/{event}");
    bob.post(&path, json!({})).await.ok();
    let path = format!("{V3}/rooms/{room}/typing/{}", bob.user_id);
    bob.put(&path, json!({ "typing": true, "timeout": 30_000 })).await.ok();
    let message = json!({ "messages": { &alice.user_id: { "*": { "a": 1 } } } });
    bob.put(&format!("{V3}/sendToDevice/m.x/1"), message).await.ok();
    let data = format!("{V3}/user/{}/account_data/m.y", alice.user_id);
    alice.put(&data, json!({ "b": 2 })).await.ok();
    let since = nothing["extensions"]["to_device"]["next_batch"].clone();
    body["extensions"]["to_device"]["since"] = since;
    let mut seen: Vec<Value> = Vec::new();
    let mut at = pos(&nothing);
    for _ in 0..4 {
        let answer = slide(&alice, &at, 1_000, &body).await;
        at = pos(&answer);
        let beside = answer["extensions"].clone();
        let next = beside["to_device"]["next_batch"].clone();
        body["extensions"]["to_device"]["since"] = next;
        seen.push(beside);
    }
    let count = |find: &dyn Fn(&Value) -> bool| seen.iter().filter(|beside| find(beside)).count();
    let read = |beside: &Value| {
        let readers = &beside["receipts"]["rooms"][&room]["content"][&event]["m.read"];
        readers.get(&bob.user_id).is_some()
    };
    assert_eq!(count(&read), 1, "{seen:?}");
    let types = |beside: &Value| {
        beside["typing"]["rooms"][&room]["content"]["user_ids"] == json!([bob.user_id])
    };
    assert_eq!(count(&types), 1, "{seen:?}");
    assert_eq!(
        count(&|beside| beside["to_device"]["events"][0]["content"]["a"] == 1),
        1,
        "{seen:?}"
    );
    assert_eq!(
        count(&|beside| beside["account_data"]["global"][0]["type"] == "m.y"),
        1,
        "{seen:?}"
    );
    // Receipts at what a new connection is told come with it.
    let answer = slide(&alice, "", 0, &body).await;
    assert!(read(&answer["extensions"]), "{answer}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let ranges = |ranges: Value| json!({ "lists": { "a": { "ranges": ranges, "timeline_limit": 1, "required_state": [] } } });
    let many = |count: usize, value: &Value| -> Value {
        (0..count).map(|n| (n.to_string(), value.clone())).collect::<serde_json::Map<_, _>>().into()
    };
    let list = &ranges(json!([[0, 1]]))["lists"]["a"];
    for (body, code) in [
        (ranges(json!([[5, 1]])), "M_INVALID_PARAM"),
        (ranges(json!([[-1, 1]])), "M_BAD_JSON"),
        (json!({ "lists": { "a": { "ranges": [[0, 1]] } } }), "M_BAD_JSON"),
        (json!({ "lists": many(101, list) }), "M_INVALID_PARAM"),
        (json!({ "conn_id": "x".repeat(256) }), "M_INVALID_PARAM"),
        (json!({ "room_subscriptions": { "no room": {} } }), "M_BAD_JSON"),
        (
            json!({ "extensions": { "to_device": { "enabled": true, "since": "x" } } }),
            "M_INVALID_PARAM",
        ),
    ] {
        alice.post(UNSTABLE, body.clone()).await.err(400, code);
    }
    alice.post(&format!("{UNSTABLE}?timeout=x"), json!({})).await.err(400, "M_INVALID_PARAM");
    alice.post(&format!("{UNSTABLE}?set_presence=x"), json!({})).await.err(400, "M_INVALID_PARAM");
    let large = json!({ "txn_id": "x".repeat(300 * 1024) });
    alice.post(UNSTABLE, large).await.err(413, "M_TOO_LARGE");
    server.anonymous().post(UNSTABLE, json!({})).await.err(401, "M_MISSING_TOKEN");
    // As much as there is, and no more.
    let room = public_room(&alice, "one").await;
    let answer = slide(&alice, "", 0, &ranges(json!([[0, 1_000_000_000]]))).await;
    assert_eq!(rooms(&answer), [&room]);
    slide(&alice, "", 0, &json!({})).await;
}

/// What a client has of a room by what it was told.
#[derive(Default)]
struct Copy {
    events: Vec<String>,
    state: BTreeMap<(String, String), String>,
    counts: (i64, i64),
}

impl Copy {
    fn told(&mut self, room: &Value) {
        let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
        if room["initial"] == true {
            *self = Self::default();
        }
        if room["limited"] == true {
            self.events.clear();
        }
        for event in room["required_state"].as_array().into_iter().flatten() {
            let key = (text(event, "type"), text(event, "state_key"));
            match event.get("event_id") {
                Some(_) => drop(self.state.insert(key, text(event, "event_id"))),
                None => drop(self.state.remove(&key)),
            }
        }
        for event in room["timeline_events"].as_array().into_iter().flatten() {
            let id = text(event, "event_id");
            self.events.retain(|known| *known != id);
            self.events.push(id);
        }
        if let Some(notify) = room["notification_count"].as_i64() {
            self.counts = (notify, room["highlight_count"].as_i64().unwrap());
        }
    }
}

/// Whatever happens, and whatever a client looks at meanwhile: what it has in the end is what is there.
#[tokio::test]
async fn a_client_that_was_told_by_and_by_has_what_is_there() {
    let server = TestServer::start().await;
    let mut world = World::new(&server, 11).await;
    let who = world.people[1].clone();
    let body = |last: usize, limit: usize| {
        json!({ "lists": { "all": {
            "range": [0, last], "timeline_limit": limit,
            "required_state": { "include": [{}] },
        } } })
    };
    let mut copies: BTreeMap<String, Copy> = BTreeMap::new();
    let mut at: Option<String> = None;
    for round in 0..120 {
        world.step().await;
        let is_last = round % 12 == 11;
        let (last, limit) = match is_last {
            true => (9, 20),
            false => (world.dice.roll(2), *world.dice.one_of(&[1, 4, 20])),
        };
        let mut request = body(last, limit);
        if let Some(at) = &at {
            request["pos"] = json!(at);
        }
        let answer = who.post(V4, request).await.ok();
        // An answer is lost now and then.
        if world.dice.roll(5) > 0 || is_last {
            at = Some(pos(&answer));
            for (room, told) in answer["rooms"].as_object().unwrap() {
                copies.entry(room.clone()).or_default().told(told);
            }
        }
        if is_last {
            let answer = who.get(&format!("{V3}/sync?filter={FULL}")).await.ok();
            for room in &world.rooms {
                compare(&who, room, &copies[room], &answer).await;
            }
        }
    }
}

/// Threads are counted apart.
const FULL: &str =
    "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22unread_thread_notifications%22%3Atrue%7D%7D%7D";

async fn compare(who: &Client, room: &str, copy: &Copy, synced: &Value) {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap().to_owned();
    let state = who.get(&format!("{V3}/rooms/{room}/state")).await.ok();
    let there: BTreeMap<(String, String), String> = state
        .as_array()
        .unwrap()
        .iter()
        .map(|event| ((text(event, "type"), text(event, "state_key")), text(event, "event_id")))
        .collect();
    assert_eq!(copy.state, there, "{room}");
    let page = format!("{V3}/rooms/{room}/messages?dir=b&limit=20");
    let page = who.get(&page).await.ok();
    let mut said: Vec<String> =
        page["chunk"].as_array().unwrap().iter().map(|event| text(event, "event_id")).collect();
    said.reverse();
    let common = said.len().min(copy.events.len()).min(20);
    assert!(common >= 10, "{room}");
    assert_eq!(copy.events[copy.events.len() - common..], said[said.len() - common..], "{room}");
    let counts = &synced["rooms"]["join"][room]["unread_notifications"];
    let count = |key: &str| counts[key].as_i64().unwrap();
    // Whoever reads is told of it with what is said next.
    let there = (count("notification_count"), count("highlight_count"));
    assert!(copy.counts.0 >= there.0, "{room}: {:?} {there:?}", copy.counts);
}
