//! Aliases, the published list, room summaries and spaces through the API.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

const V3: &str = "/_matrix/client/v3";
const V1: &str = "/_matrix/client/v1";

async fn room(user: &Client, request: Value) -> String {
    let body = user.post(&format!("{V3}/createRoom"), request).await.ok();
    body["room_id"].as_str().unwrap().to_owned()
}

async fn join(user: &Client, room: &str) {
    user.post(&format!("{V3}/join/{room}"), json!({})).await.ok();
}

async fn state(user: &Client, room: &str, kind: &str, key: &str, content: Value) {
    user.put(&format!("{V3}/rooms/{room}/state/{kind}/{key}"), content).await.ok();
}

fn alias(name: &str) -> String {
    format!("{V3}/directory/room/%23{name}")
}

fn ids(rooms: &Value) -> Vec<&str> {
    rooms.as_array().unwrap().iter().map(|room| room["room_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn aliases() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let first = room(&alice, json!({ "preset": "public_chat" })).await;
    let other = room(&alice, json!({})).await;
    let home = alias("home:localhost");
    alice.get(&home).await.err(404, "M_NOT_FOUND");
    bob.put(&home, json!({ "room_id": first })).await.err(403, "M_FORBIDDEN");
    alice.put(&home, json!({ "room_id": first })).await.ok();
    alice.put(&home, json!({ "room_id": other })).await.err(409, "M_UNKNOWN");
    let body = server.anonymous().get(&home).await.ok();
    assert_eq!(body, json!({ "room_id": first, "servers": ["localhost"] }));
    for (name, room, status, errcode) in [
        ("a:elsewhere.org", first.as_str(), 400, "M_INVALID_PARAM"),
        (":localhost", first.as_str(), 400, "M_INVALID_PARAM"),
        (&format!("{}:localhost", "a".repeat(300)), first.as_str(), 400, "M_INVALID_PARAM"),
        ("b:localhost", "!nothing:localhost", 403, "M_FORBIDDEN"),
        ("b:localhost", "nonsense", 400, "M_BAD_JSON"),
    ] {
        alice.put(&alias(name), json!({ "room_id": room })).await.err(status, errcode);
    }
    let aliases = format!("{V3}/rooms/{first}/aliases");
    assert_eq!(alice.get(&aliases).await.ok(), json!({ "aliases": ["#home:localhost"] }));
    bob.get(&aliases).await.err(403, "M_FORBIDDEN");
    state(
        &alice,
        &first,
        "m.room.history_visibility",
        "",
        json!({
            "history_visibility": "world_readable",
        }),
    )
    .await;
    bob.get(&aliases).await.ok();
    bob.get(&format!("{V3}/rooms/!nothing:localhost/aliases")).await.err(403, "M_FORBIDDEN");

    // Joining by alias; deleting one's own, and others' only as a moderator.
    bob.post(&format!("{V3}/join/%23home:localhost"), json!({})).await.ok();
    bob.delete(&home, None).await.err(403, "M_FORBIDDEN");
    let mine = alias("bobs:localhost");
    bob.put(&mine, json!({ "room_id": first })).await.ok();
    bob.delete(&mine, None).await.ok();
    bob.delete(&mine, None).await.err(404, "M_NOT_FOUND");
    bob.put(&mine, json!({ "room_id": first })).await.ok();
    let canonical = json!({ "alias": "#bobs:localhost", "alt_aliases": ["#home:localhost"] });
    state(&alice, &first, "m.room.canonical_alias", "", canonical).await;
    alice.delete(&mine, None).await.ok();
    let path = format!("{V3}/rooms/{first}/state/m.room.canonical_alias/");
    assert_eq!(alice.get(&path).await.ok(), json!({ "alt_aliases": ["#home:localhost"] }));
}

#[tokio::test]
async fn an_alias_is_taken_at_creation() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let first = room(&alice, json!({ "room_alias_name": "cafe", "visibility": "public" })).await;
    let body = alice.get(&alias("cafe:localhost")).await.ok();
    assert_eq!(body["room_id"], json!(first));
    let again = json!({ "room_alias_name": "cafe" });
    alice.post(&format!("{V3}/createRoom"), again).await.err(400, "M_ROOM_IN_USE");
    let listed = alice.get(&format!("{V3}/publicRooms")).await.ok();
    assert_eq!(listed["chunk"][0]["canonical_alias"], "#cafe:localhost");
}

#[tokio::test]
async fn visibility() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let first = room(&alice, json!({ "preset": "public_chat" })).await;
    let path = format!("{V3}/directory/list/room/{first}");
    let anybody = server.anonymous();
    assert_eq!(anybody.get(&path).await.ok(), json!({ "visibility": "private" }));
    bob.put(&path, json!({ "visibility": "public" })).await.err(403, "M_FORBIDDEN");
    join(&bob, &first).await;
    bob.put(&path, json!({ "visibility": "public" })).await.err(403, "M_FORBIDDEN");
    anybody.put(&path, json!({})).await.err(401, "M_MISSING_TOKEN");
    alice.put(&path, json!({})).await.ok();
    assert_eq!(anybody.get(&path).await.ok(), json!({ "visibility": "public" }));
    assert_eq!(ids(&anybody.get(&format!("{V3}/publicRooms")).await.ok()["chunk"]), [&first]);
    alice.put(&path, json!({ "visibility": "hidden" })).await.err(400, "M_BAD_JSON");
    alice.put(&path, json!({ "visibility": "private" })).await.ok();
    assert_eq!(anybody.get(&path).await.ok(), json!({ "visibility": "private" }));
    let unknown = format!("{V3}/directory/list/room/!nothing:localhost");
    // As of a room that is not published, and as of a room of others.
    assert_eq!(anybody.get(&unknown).await.ok(), json!({ "visibility": "private" }));
    alice.put(&unknown, json!({})).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn published_rooms() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut rooms = Vec::new();
    for n in 0..5 {
        let request = json!({
            "visibility": "public", "preset": "public_chat", "name": format!("Room {n}"),
            "topic": if n == 3 { "about Gardens" } else { "nothing" },
            "creation_content": if n == 4 { json!({ "type": "m.space" }) } else { json!({}) },
        });
        rooms.push(room(&alice, request).await);
    }
    room(&alice, json!({ "name": "hidden" })).await;
    join(&bob, &rooms[2]).await;
    let list = format!("{V3}/publicRooms");
    let all = bob.get(&list).await.ok();
    assert_eq!(ids(&all["chunk"]), [&rooms[2], &rooms[4], &rooms[3], &rooms[1], &rooms[0]]);
    assert_eq!(all["total_room_count_estimate"], 5);
    assert!(all.get("next_batch").is_none() && all.get("prev_batch").is_none());
    assert_eq!(all["chunk"][0]["num_joined_members"], 2);
    assert_eq!(all["chunk"][0]["name"], "Room 2");
    assert_eq!(all["chunk"][1]["room_type"], "m.space");

    // Forward to the end, then back to the start.
    let mut found = Vec::new();
    let mut page = bob.get(&format!("{list}?limit=2")).await.ok();
    loop {
        found.extend(ids(&page["chunk"]).into_iter().map(str::to_owned));
        let Some(next) = page["next_batch"].as_str() else { break };
        page = bob.get(&format!("{list}?limit=2&since={next}")).await.ok();
    }
    assert_eq!(found, ids(&all["chunk"]));
    let prev = page["prev_batch"].as_str().unwrap();
    let back = bob.get(&format!("{list}?limit=2&since={prev}")).await.ok();
    assert_eq!(ids(&back["chunk"]), [&rooms[3], &rooms[1]]);
    let prev = back["prev_batch"].as_str().unwrap();
    let back = bob.get(&format!("{list}?limit=2&since={prev}")).await.ok();
    assert_eq!(ids(&back["chunk"]), [&rooms[2], &rooms[4]]);
    assert!(back.get("prev_batch").is_none());
    let next = back["next_batch"].as_str().unwrap();
    let forth = bob.get(&format!("{list}?limit=2&since={next}")).await.ok();
    assert_eq!(ids(&forth["chunk"]), [&rooms[3], &rooms[1]]);

    let search = |filter: Value| {
        let (bob, list) = (bob.clone(), list.clone());
        async move { bob.post(&list, json!({ "filter": filter })).await.ok() }
    };
    let found = search(json!({ "generic_search_term": "garden" })).await;
    assert_eq!(ids(&found["chunk"]), [&rooms[3]]);
    let found = search(json!({ "room_types": ["m.space"] })).await;
    assert_eq!(ids(&found["chunk"]), [&rooms[4]]);
    let found = search(json!({ "room_types": [null], "generic_search_term": "ROOM 1" })).await;
    assert_eq!(ids(&found["chunk"]), [&rooms[1]]);
    assert_eq!(ids(&search(json!({ "generic_search_term": "%" })).await["chunk"]).len(), 0);
    let other = json!({ "third_party_instance_id": "irc" });
    assert_eq!(bob.post(&list, other).await.ok()["chunk"], json!([]));
    for since in ["nonsense", "f1", "f1_nonsense", "f1_!nothing:localhost", "fx_!a:b"] {
        bob.get(&format!("{list}?since={since}")).await.err(400, "M_INVALID_PARAM");
    }
    bob.get(&format!("{list}?server=elsewhere.org")).await.err(404, "M_NOT_FOUND");
    let long = json!({ "filter": { "generic_search_term": "a".repeat(1_000) } });
    bob.post(&list, long).await.err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn summaries() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let anybody = server.anonymous();
    let open = room(
        &alice,
        json!({
            "preset": "public_chat", "name": "Open", "topic": "all", "room_alias_name": "open",
            "initial_state": [{ "type": "m.room.encryption", "state_key": "",
                "content": { "algorithm": "m.megolm.v1.aes-sha2" } }],
        }),
    )
    .await;
    let closed = room(&alice, json!({ "preset": "private_chat", "name": "Closed" })).await;
    let path = |room: &str| format!("{V1}/room_summary/{room}");
    let body = anybody.get(&path("%23open:localhost")).await.ok();
    assert_eq!(body["room_id"], json!(open));
    assert_eq!((&body["name"], &body["topic"]), (&json!("Open"), &json!("all")));
    assert_eq!(body["num_joined_members"], 1);
    assert_eq!(body["encryption"], "m.megolm.v1.aes-sha2");
    assert_eq!(body["room_version"], "12");
    assert!(body.get("membership").is_none());
    assert_eq!(alice.get(&path(&open)).await.ok()["membership"], "join");
    bob.get(&path(&closed)).await.err(404, "M_NOT_FOUND");
    anybody.get(&path(&closed)).await.err(404, "M_NOT_FOUND");
    anybody.get(&path("!nothing:localhost")).await.err(404, "M_NOT_FOUND");
    let invite = format!("{V3}/rooms/{closed}/invite");
    alice.post(&invite, json!({ "user_id": bob.user_id })).await.ok();
    assert_eq!(bob.get(&path(&closed)).await.ok()["membership"], "invite");
    assert_eq!(bob.get(&path(&closed)).await.ok()["join_rule"], "invite");
    let old = format!("/_matrix/client/unstable/im.nheko.summary/rooms/{open}/summary");
    anybody.get(&old).await.ok();
    let ban = format!("{V3}/rooms/{open}/ban");
    alice.post(&ban, json!({ "user_id": bob.user_id })).await.ok();
    bob.get(&path(&open)).await.err(404, "M_NOT_FOUND");
}

async fn add(user: &Client, space: &str, child: &str, content: Value) {
    state(user, space, "m.space.child", child, content).await;
}

#[tokio::test]
async fn hierarchies() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let space = |name: &str| json!({ "name": name, "preset": "public_chat", "creation_content": { "type": "m.space" } });
    let top = room(&alice, space("top")).await;
    let sub = room(&alice, space("sub")).await;
    let deep = room(&alice, json!({ "preset": "public_chat", "name": "deep" })).await;
    let early = room(&alice, json!({ "preset": "public_chat", "name": "early" })).await;
    let late = room(&alice, json!({ "preset": "public_chat", "name": "late" })).await;
    let closed = room(&alice, json!({ "preset": "private_chat", "name": "closed" })).await;
    let via = |more: Value| {
        let mut content = json!({ "via": ["localhost"] });
        content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        content
    };
    add(&alice, &top, &late, via(json!({}))).await;
    add(&alice, &top, &early, via(json!({ "order": "b", "suggested": true }))).await;
    add(&alice, &top, &sub, via(json!({ "order": "a" }))).await;
    add(&alice, &top, &closed, via(json!({ "order": "c" }))).await;
    add(&alice, &top, "!elsewhere:elsewhere.org", via(json!({}))).await;
    add(&alice, &top, &deep, json!({})).await;
    add(&alice, &sub, &deep, via(json!({}))).await;
    add(&alice, &sub, &top, via(json!({}))).await;
    let path = format!("{V1}/rooms/{top}/hierarchy");
    let body = bob.get(&path).await.ok();
    assert_eq!(ids(&body["rooms"]), [&top, &sub, &deep, &early, &late]);
    assert!(body.get("next_batch").is_none());
    let children = body["rooms"][0]["children_state"].as_array().unwrap();
    let keys: Vec<&str> = children.iter().map(|c| c["state_key"].as_str().unwrap()).collect();
    assert_eq!(keys, [&sub, &early, &closed, &late, "!elsewhere:elsewhere.org"]);
    assert_eq!(children[0]["content"], via(json!({ "order": "a" })));
    assert!(children[0]["origin_server_ts"].is_i64() && children[0]["sender"].is_string());
    assert_eq!(body["rooms"][2]["children_state"], json!([]));
    assert_eq!(alice.get(&path).await.ok()["rooms"].as_array().unwrap().len(), 6);
    let body = bob.get(&format!("{path}?max_depth=1")).await.ok();
    assert_eq!(ids(&body["rooms"]), [&top, &sub, &early, &late]);
    let body = bob.get(&format!("{path}?max_depth=0")).await.ok();
    assert_eq!(ids(&body["rooms"]), [&top]);
    let body = bob.get(&format!("{path}?suggested_only=true")).await.ok();
    assert_eq!(ids(&body["rooms"]), [&top, &early]);

    let mut found = Vec::new();
    let mut page = bob.get(&format!("{path}?limit=2")).await.ok();
    let first = page["next_batch"].as_str().unwrap().to_owned();
    loop {
        found.extend(ids(&page["rooms"]).into_iter().map(str::to_owned));
        let Some(next) = page["next_batch"].as_str() else { break };
        page = bob.get(&format!("{path}?limit=2&from={next}")).await.ok();
    }
    assert_eq!(found, [&top, &sub, &deep, &early, &late].map(String::as_str));
    for query in ["from=nonsense", &format!("from={first}&max_depth=3"), "limit=0"] {
        bob.get(&format!("{path}?{query}")).await.err(400, "M_INVALID_PARAM");
    }
    bob.get(&format!("{V1}/rooms/{closed}/hierarchy")).await.err(403, "M_FORBIDDEN");
    bob.get(&format!("{V1}/rooms/!nothing:localhost/hierarchy")).await.err(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn restricted_rooms_show_themselves_to_who_may_join() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let club = room(
        &alice,
        json!({
            "preset": "public_chat", "creation_content": { "type": "m.space" },
        }),
    )
    .await;
    let inner = room(
        &alice,
        json!({
            "preset": "private_chat", "name": "inner",
            "initial_state": [{ "type": "m.room.join_rules", "state_key": "", "content": {
                "join_rule": "restricted",
                "allow": [{ "type": "m.room_membership", "room_id": club }],
            } }],
        }),
    )
    .await;
    add(&alice, &club, &inner, json!({ "via": ["localhost"] })).await;
    let path = format!("{V1}/rooms/{club}/hierarchy");
    assert_eq!(ids(&bob.get(&path).await.ok()["rooms"]), [&club]);
    bob.get(&format!("{V1}/room_summary/{inner}")).await.err(404, "M_NOT_FOUND");
    join(&bob, &club).await;
    let body = bob.get(&path).await.ok();
    assert_eq!(ids(&body["rooms"]), [&club, &inner]);
    assert_eq!(body["rooms"][1]["join_rule"], "restricted");
    assert_eq!(body["rooms"][1]["allowed_room_ids"], json!([club]));
    join(&bob, &inner).await;
}
