//! Lists and objects that the specification names are in every answer, empty where nothing is in them:
//! clients read them without asking whether they are there. That every answer of every test is whole,
//! the test client checks (`core/testkit/src/openapi/containers.rs`); here are the answers in which
//! nothing is left to say.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";

/// Asserts that each of these members is there and empty.
#[track_caller]
fn empty(body: &Value, lists: &[&str], objects: &[&str]) {
    for name in lists {
        assert_eq!(body[name], json!([]), "{name} of {body}");
    }
    for name in objects {
        assert_eq!(body[name], json!({}), "{name} of {body}");
    }
}

async fn room(user: &Client, body: Value) -> String {
    let room = user.post(&format!("{V3}/createRoom"), body).await.ok();
    room["room_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn keys_of_nobody_are_empty_and_there() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let body = alice.post(&format!("{V3}/keys/query"), json!({ "device_keys": {} })).await.ok();
    let maps = ["failures", "device_keys", "master_keys", "self_signing_keys", "user_signing_keys"];
    empty(&body, &[], &maps);
    let nobody = json!({ "device_keys": { "@nobody:localhost": [] } });
    let body = alice.post(&format!("{V3}/keys/query"), nobody).await.ok();
    empty(&body, &[], &maps);
    let body = alice.post(&format!("{V3}/keys/claim"), json!({ "one_time_keys": {} })).await.ok();
    empty(&body, &[], &["failures", "one_time_keys"]);
    let body = alice.post(&format!("{V3}/keys/signatures/upload"), json!({})).await.ok();
    empty(&body, &[], &["failures"]);
    let sync = alice.get(&format!("{V3}/sync")).await.ok();
    let since = sync["next_batch"].as_str().unwrap();
    let body = alice.get(&format!("{V3}/keys/changes?from={since}&to={since}")).await.ok();
    empty(&body, &["changed", "left"], &[]);
}

#[tokio::test]
async fn a_device_without_name_has_an_empty_unsigned() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let (user_id, device_id) = (alice.user_id.clone(), alice.device_id.clone());
    // As older versions left devices: today each has a name.
    let services = std::sync::Arc::clone(&server.inside().await.services);
    let session = services.accounts.authenticate(alice.token.as_ref().unwrap()).await.unwrap();
    let nameless = services.context.db.write(move |tx| {
        Box::pin(colonnade_storage::users::devices::rename(tx, session.device, None))
    });
    assert!(nameless.await.unwrap());
    let keys = json!({ "device_keys": {
        "user_id": user_id, "device_id": device_id, "algorithms": [],
        "keys": { format!("ed25519:{device_id}"): "k" }, "signatures": {},
    } });
    alice.post(&format!("{V3}/keys/upload"), keys).await.ok();
    let asked = json!({ "device_keys": { &user_id: [] } });
    let body = alice.post(&format!("{V3}/keys/query"), asked).await.ok();
    let device = &body["device_keys"][&user_id][&device_id];
    assert_eq!((&device["unsigned"], &device["signatures"]), (&json!({}), &json!({})), "{device}");
}

#[tokio::test]
async fn an_event_with_nothing_around_it_says_so() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room(&alice, json!({})).await;
    let send = format!("{V3}/rooms/{room}/send/m.room.message/1");
    let message = json!({ "msgtype": "m.text", "body": "alone" });
    let sent = alice.put(&send, message).await.ok();
    let event = sent["event_id"].as_str().unwrap();
    let around = |limit: u32| format!("{V3}/rooms/{room}/context/{event}?limit={limit}");
    let body = alice.get(&around(0)).await.ok();
    empty(&body, &["events_before", "events_after"], &[]);
    let body = alice.get(&around(10)).await.ok();
    empty(&body, &["events_after"], &[]);
    let page = alice.get(&format!("{V3}/rooms/{room}/messages?dir=b")).await.ok();
    empty(&page, &["state"], &[]);
    let related = format!("/_matrix/client/v1/rooms/{room}/relations/{event}");
    empty(&alice.get(&related).await.ok(), &["chunk"], &[]);
    empty(
        &alice.get(&format!("/_matrix/client/v1/rooms/{room}/threads")).await.ok(),
        &["chunk"],
        &[],
    );
    let tags = format!("{V3}/user/{}/rooms/{room}/tags", alice.user_id);
    empty(&alice.get(&tags).await.ok(), &[], &["tags"]);
}

#[tokio::test]
async fn a_search_lists_everything_whether_or_not_it_finds_something() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let room = room(&alice, json!({ "name": "Observatory" })).await;
    let search = |term: &str, more: Value| {
        let mut criteria = json!({ "search_term": term });
        criteria.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({ "search_categories": { "room_events": criteria } });
        alice.post("/_matrix/client/v3/search", body)
    };
    for term in ["", "nothing"] {
        let body = search(term, json!({})).await.ok();
        let found = &body["search_categories"]["room_events"];
        empty(found, &["results"], &["groups", "state"]);
        assert!(found["highlights"].is_array(), "{found}");
    }
    let message = json!({ "msgtype": "m.text", "body": "a comet" });
    alice.put(&format!("{V3}/rooms/{room}/send/m.room.message/1"), message).await.ok();
    let around = json!({ "event_context": { "before_limit": 0, "after_limit": 0 } });
    let body = search("comet", around).await.ok();
    let found = &body["search_categories"]["room_events"];
    empty(found, &[], &["groups", "state"]);
    empty(&found["results"][0]["context"], &["events_before", "events_after"], &["profile_info"]);
}

#[tokio::test]
async fn what_the_server_says_of_itself_and_of_rooms_is_whole() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let versions = alice.get("/_matrix/client/versions").await.ok();
    assert!(versions["unstable_features"].is_object(), "{versions}");
    let rooms = alice.get(&format!("{V3}/publicRooms")).await.ok();
    empty(&rooms, &["chunk"], &[]);
    empty(&alice.get(&format!("{V3}/joined_rooms")).await.ok(), &["joined_rooms"], &[]);
    empty(&alice.get(&format!("{V3}/account/3pid")).await.ok(), &["threepids"], &[]);
    empty(&alice.get(&format!("{V3}/pushers")).await.ok(), &["pushers"], &[]);
    let room = room(&alice, json!({ "preset": "public_chat" })).await;
    let summary = alice.get(&format!("/_matrix/client/v1/room_summary/{room}")).await.ok();
    empty(&summary, &["allowed_room_ids"], &[]);
    let below = alice.get(&format!("/_matrix/client/v1/rooms/{room}/hierarchy")).await.ok();
    empty(&below["rooms"][0], &["allowed_room_ids", "children_state"], &[]);
    assert_eq!(summary["membership"], "join");
}
