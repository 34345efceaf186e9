//! Sliding sync through the API: what a client is told of the rooms it shows, what it is told again, and when
//! it is woken.

use std::time::{Duration, Instant};

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, in_room, room_of, say, send};

pub(super) const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

/// Asks once, without waiting unless `more` says so.
pub(super) async fn slide_with(client: &Client, pos: String, more: &str, body: Value) -> Value {
    let pos = if pos.is_empty() { String::new() } else { format!("pos={pos}&") };
    client.post(&format!("{PATH}?{pos}{more}"), body).await.ok()
}

pub(super) async fn slide(client: &Client, pos: &str, body: &Value) -> Value {
    slide_with(client, pos.to_owned(), "timeout=0", body.clone()).await
}

pub(super) fn pos(answer: &Value) -> String {
    answer["pos"].as_str().unwrap().to_owned()
}

/// One list of everything with a timeline of some events.
pub(super) fn all(limit: u64, required: Value) -> Value {
    let list = json!({ "ranges": [[0, 99]], "timeline_limit": limit, "required_state": required });
    json!({ "lists": { "all": list } })
}

pub(super) fn bodies(room: &Value) -> Vec<String> {
    let events = room["timeline"].as_array().cloned().unwrap_or_default();
    let bodies = events.iter().filter_map(|event| event["content"]["body"].as_str());
    bodies.map(str::to_owned).collect()
}

/// The types and state keys of the state that is told, in order.
pub(super) fn required(room: &Value) -> Vec<String> {
    let events = room["required_state"].as_array().cloned().unwrap_or_default();
    let name = |event: &Value| {
        let (kind, key) = (event["type"].as_str().unwrap(), event["state_key"].as_str().unwrap());
        format!("{kind} {key}").trim_end().to_owned()
    };
    let mut names: Vec<String> = events.iter().map(name).collect();
    names.sort();
    names
}

pub(super) fn rooms(answer: &Value) -> Vec<String> {
    answer["rooms"].as_object().unwrap().keys().cloned().collect()
}

pub(super) async fn name(client: &Client, room: &str, name: &str) {
    client.put(&in_room(room, "state/m.room.name"), json!({ "name": name })).await.ok();
}

#[tokio::test]
async fn a_conversation_arrives() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    say(&bob, &room, "hello").await;
    let wanted = all(2, json!([["m.room.create", ""], ["m.room.member", "$ME"]]));
    let first = slide(&alice, "", &wanted).await;
    assert_eq!(first["lists"]["all"]["count"], 1);
    let shown = &first["rooms"][&room];
    assert_eq!(shown["initial"], true, "{first}");
    assert_eq!(bodies(shown), ["hello"]);
    assert_eq!(shown["timeline"].as_array().unwrap().len(), 2);
    assert_eq!((&shown["limited"], &shown["num_live"]), (&json!(true), &json!(0)));
    let own = format!("m.room.member {}", alice.user_id);
    assert_eq!(required(shown), ["m.room.create", &own]);
    assert_eq!((&shown["joined_count"], &shown["invited_count"]), (&json!(2), &json!(0)));
    assert_eq!((&shown["notification_count"], &shown["highlight_count"]), (&json!(1), &json!(0)));
    assert_eq!(shown["heroes"][0]["user_id"], bob.user_id);
    assert!(shown["timeline"][0].get("room_id").is_none());
    // What came before is where it says.
    let before = shown["prev_batch"].as_str().unwrap();
    let path = in_room(&room, &format!("messages?dir=b&from={before}&limit=1"));
    let page = alice.get(&path).await.ok();
    assert_ne!(page["chunk"][0]["event_id"], shown["timeline"][0]["event_id"]);

    let second = slide(&alice, &pos(&first), &wanted).await;
    assert_eq!(second["rooms"], json!({}), "{second}");
    say(&bob, &room, "again").await;
    name(&alice, &room, "salon").await;
    let third = slide(&alice, &pos(&second), &wanted).await;
    let shown = &third["rooms"][&room];
    assert_eq!(bodies(shown), ["again"]);
    assert!(shown.get("initial").is_none() && shown["limited"] != true, "{third}");
    assert_eq!((&shown["num_live"], &shown["name"]), (&json!(2), &json!("salon")));
    assert!(shown.get("required_state").is_none() && shown.get("joined_count").is_none());
    assert!(shown["bump_stamp"].as_i64() > first["rooms"][&room]["bump_stamp"].as_i64());
}

#[tokio::test]
async fn a_position_is_answered_the_same_until_a_later_one_is_used() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let wanted = all(5, json!([]));
    let first = slide(&alice, "", &wanted).await;
    say(&bob, &room, "one").await;
    let second = slide(&alice, &pos(&first), &wanted).await;
    let again = slide(&alice, &pos(&first), &wanted).await;
    assert_eq!(bodies(&second["rooms"][&room]), ["one"]);
    assert_eq!(bodies(&again["rooms"][&room]), ["one"]);
    assert_ne!(pos(&second), pos(&again));
    // Both may have arrived; from either it goes on, and then no more from before.
    say(&bob, &room, "two").await;
    let third = slide(&alice, &pos(&again), &wanted).await;
    assert_eq!(bodies(&third["rooms"][&room]), ["two"]);
    let unknown = async |client: &Client, pos: &str, body: Value| {
        client.post(&format!("{PATH}?pos={pos}"), body).await.err(400, "M_UNKNOWN_POS");
    };
    unknown(&alice, &pos(&first), wanted.clone()).await;
    unknown(&alice, "nonsense", wanted.clone()).await;
    unknown(&bob, &pos(&third), wanted.clone()).await;
    unknown(&alice.another_device().await, &pos(&third), wanted.clone()).await;
    let mut other = wanted.clone();
    other["conn_id"] = "other".into();
    unknown(&alice, &pos(&third), other.clone()).await;
    // Connections do not know of each other.
    assert_eq!(bodies(&slide(&alice, "", &other).await["rooms"][&room]).len(), 2);
    let fourth = slide(&alice, &pos(&third), &wanted).await;
    assert_eq!(fourth["rooms"], json!({}));
}

#[tokio::test]
async fn what_is_shown_wakes_and_what_is_not_does_not() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let quiet = room_of(&[&alice, &bob]).await;
    let room = room_of(&[&alice, &bob]).await;
    let wanted = json!({ "room_subscriptions": { &room: { "timeline_limit": 5 } } });
    let first = slide(&alice, "", &wanted).await;
    assert_eq!(rooms(&first), std::slice::from_ref(&room));
    let begun = Instant::now();
    let (answer, ()) =
        tokio::join!(slide_with(&alice, pos(&first), "timeout=30000", wanted.clone()), async {
            say(&bob, &quiet, "aside").await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            say(&bob, &room, "here").await;
        });
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(rooms(&answer), std::slice::from_ref(&room), "{answer}");
    assert_eq!(bodies(&answer["rooms"][&room]), ["here"]);
    let begun = Instant::now();
    let answer = slide_with(&alice, pos(&answer), "timeout=300", wanted.clone()).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(answer["rooms"], json!({}));
    // The other room is news once it is shown.
    let mut more = wanted.clone();
    more["room_subscriptions"][&quiet] = json!({ "timeline_limit": 1 });
    let answer = slide_with(&alice, pos(&answer), "timeout=30000", more).await;
    assert_eq!(bodies(&answer["rooms"][&quiet]), ["aside"]);
    assert_eq!(answer["rooms"][&quiet]["initial"], true);
}

#[tokio::test]
async fn the_proposed_path_has_the_proposed_words() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let bob = server.user("bob").await;
    let room = room_of(&[&alice, &bob]).await;
    let wanted = json!({ "lists": { "all": {
        "timeline_limit": 1, "required_state": { "include": [{ "type": "m.room.create" }] },
    } } });
    let first = alice.post("/_matrix/client/v4/sync", wanted.clone()).await.ok();
    let shown = &first["rooms"][&room];
    assert_eq!((&shown["membership"], &shown["lists"]), (&json!("join"), &json!(["all"])));
    assert_eq!(shown["timeline_events"].as_array().unwrap().len(), 1);
    assert_eq!(required(shown), ["m.room.create"]);
    let mut more = wanted;
    more["pos"] = first["pos"].clone();
    more["lists"]["all"]["timeline_limit"] = 3.into();
    let second = alice.post("/_matrix/client/v4/sync", more).await.ok();
    let shown = &second["rooms"][&room];
    assert_eq!(shown["expanded_timeline"], true, "{second}");
    assert_eq!(shown["timeline_events"].as_array().unwrap().len(), 3);
    let versions = alice.get("/_matrix/client/versions").await.ok();
    assert_eq!(versions["unstable_features"]["org.matrix.simplified_msc3575"], true);
}

#[tokio::test]
async fn nonsense_is_refused_and_a_huge_window_is_none() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let list =
        |ranges: Value| json!({ "lists": { "a": { "timeline_limit": 1, "ranges": ranges } } });
    let path = format!("{PATH}?timeout=0");
    let huge = slide(&alice, "", &list(json!([[0, 1_000_000_000_u64]]))).await;
    assert_eq!(rooms(&huge), [room]);
    alice.post(&path, list(json!([[5, 1]]))).await.err(400, "M_INVALID_PARAM");
    alice.post(&path, list(json!([[-5, 1]]))).await.err(400, "M_BAD_JSON");
    alice.post(&path, list(json!("all"))).await.err(400, "M_BAD_JSON");
    let lists: serde_json::Map<String, Value> =
        (0..101).map(|n| (n.to_string(), json!({ "timeline_limit": 1 }))).collect();
    alice.post(&path, json!({ "lists": lists })).await.err(400, "M_INVALID_PARAM");
    let tags: Vec<String> = (0..100_000).map(|n| format!("tag{n}")).collect();
    let filters = json!({ "tags": tags });
    let large = json!({ "lists": { "a": { "timeline_limit": 1, "filters": filters } } });
    let answer = alice.post(&path, large).await;
    assert!([400, 413].contains(&answer.status), "{}", answer.body);
    let future = json!({ "extensions": { "to_device": { "enabled": true, "since": "s999" } } });
    alice.post(&path, future).await.err(400, "M_INVALID_PARAM");
    alice.post(&format!("{path}&set_presence=there"), json!({})).await.err(400, "M_INVALID_PARAM");
    alice.post(&format!("{PATH}?timeout=soon"), json!({})).await.err(400, "M_INVALID_PARAM");
    server.anonymous().post(&path, json!({})).await.err(401, "M_MISSING_TOKEN");
    assert!(slide(&alice, "", &json!({})).await["pos"].is_string());
}

#[tokio::test]
async fn what_hangs_on_events_goes_along() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = create(&alice, json!({})).await;
    let first = say(&alice, &room, "first").await;
    let edit = json!({
        "msgtype": "m.text", "body": "* better",
        "m.new_content": { "msgtype": "m.text", "body": "better" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": first },
    });
    send(&alice, &room, "m.room.message", edit).await;
    let shown = slide(&alice, "", &all(2, json!([]))).await;
    let event = &shown["rooms"][&room]["timeline"][0];
    assert_eq!(event["event_id"], first.as_str());
    let edited = &event["unsigned"]["m.relations"]["m.replace"];
    assert_eq!(edited["content"]["m.new_content"]["body"], "better", "{event}");
}
