//! Spaces whose rooms are on several servers, as users and servers see them.

use colonnade_federation::transport::{Request, TransportError};
use colonnade_testkit::{Client, TestServer, federation::Federation};
use serde_json::{Value, json};

use super::rooms::{create, encode, join, path};

async fn space(client: &Client, name: &str, join_rule: &str) -> String {
    let rule = json!({ "type": "m.room.join_rules", "content": { "join_rule": join_rule } });
    let request = json!({ "name": name, "preset": "private_chat",
        "creation_content": { "type": "m.space" }, "initial_state": [rule] });
    create(client, request).await
}

async fn room(client: &Client, name: &str, rule: Value) -> String {
    let rule = json!({ "type": "m.room.join_rules", "content": rule });
    let request = json!({ "name": name, "preset": "private_chat", "initial_state": [rule] });
    create(client, request).await
}

async fn put_below(client: &Client, space: &str, child: &str, via: &str) {
    let child = path(space, &format!("state/m.space.child/{}", encode(child)));
    client.put(&child, json!({ "via": [via], "suggested": via == "hs1" })).await.ok();
}

async fn names(client: &Client, space: &str, query: &str) -> Vec<String> {
    let address = format!("/_matrix/client/v1/rooms/{}/hierarchy{query}", encode(space));
    let page = client.get(&address).await.ok();
    let mut names: Vec<String> = page["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| room["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    names.sort_unstable();
    names
}

async fn served(from: &TestServer, room: &str) -> Result<Value, TransportError> {
    let transport = &from.inside().await.services.transport;
    let request = Request::get(format!("/_matrix/federation/v1/hierarchy/{}", encode(room)));
    let answer = transport.send("hs1".try_into().unwrap(), request).await?;
    answer.json().await
}

#[tokio::test]
async fn a_space_shows_the_rooms_that_only_another_server_knows() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let far = space(&alice, "Far", "public").await;
    let deeper = space(&alice, "Deeper", "public").await;
    let open = room(&alice, "Open", json!({ "join_rule": "public" })).await;
    let deep = room(&alice, "Deep", json!({ "join_rule": "knock" })).await;
    let closed = room(&alice, "Closed", json!({ "join_rule": "invite" })).await;
    let allow = json!([{ "type": "m.room_membership", "room_id": far }]);
    let club = json!({ "join_rule": "restricted", "allow": allow });
    let club = room(&alice, "Club", club).await;
    for child in [&deeper, &open, &closed, &club] {
        put_below(&alice, &far, child, "hs1").await;
    }
    put_below(&alice, &deeper, &deep, "hs1").await;
    // Of a room that nobody knows nothing is shown.
    put_below(&alice, &far, "!nowhere:hs1", "hs1").await;

    let near = space(&bob, "Near", "invite").await;
    put_below(&bob, &near, &far, "hs1").await;
    let seen = names(&bob, &near, "").await;
    assert_eq!(seen, ["Deep", "Deeper", "Far", "Near", "Open"]);
    assert_eq!(names(&bob, &near, "?max_depth=1").await, ["Far", "Near"]);
    let first = format!("/_matrix/client/v1/rooms/{}/hierarchy?limit=2", encode(&near));
    let first = bob.get(&first).await.ok();
    let next = format!("?limit=10&from={}", first["next_batch"].as_str().unwrap());
    assert_eq!(names(&bob, &near, &next).await.len(), 3, "a page goes on where the other ended");
    // What was said is good for a while.
    servers.cut(0);
    assert_eq!(names(&bob, &near, "").await, seen);
    servers.mend(0);
    // Whoever is in the space may see what its members may join.
    join(&bob, &far, "hs1").await;
    let seen = names(&bob, &near, "").await;
    assert_eq!(seen, ["Club", "Deep", "Deeper", "Far", "Near", "Open"]);
    let carol = servers[1].user("carol").await;
    let hers = space(&carol, "Hers", "invite").await;
    put_below(&carol, &hers, &club, "hs1").await;
    assert_eq!(names(&carol, &hers, "").await, ["Hers"], "her server may see it, and she may not");
}

#[tokio::test]
async fn another_server_is_shown_what_its_users_could_see_or_join() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let far = space(&alice, "Far", "public").await;
    let open = room(&alice, "Open", json!({ "join_rule": "public" })).await;
    let closed = room(&alice, "Closed", json!({ "join_rule": "invite" })).await;
    for child in [open.as_str(), closed.as_str(), "!nowhere:hs1"] {
        put_below(&alice, &far, child, "hs1").await;
    }
    let shown = served(&servers[1], &far).await.unwrap();
    assert_eq!(shown["room"]["name"], "Far");
    assert_eq!(shown["room"]["children_state"].as_array().unwrap().len(), 3);
    assert!(shown["room"]["children_state"][0]["origin_server_ts"].is_i64());
    let of = |list: &Value| -> Vec<String> {
        let rooms = list.as_array().unwrap().iter();
        rooms.map(|room| room["room_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(of(&shown["children"]), std::slice::from_ref(&open));
    assert_eq!(shown["inaccessible_children"], json!([closed]));
    for hidden in [closed.as_str(), "!nowhere:hs1"] {
        let told = served(&servers[1], hidden).await.unwrap_err();
        let TransportError::Status { status, errcode, .. } = told else { panic!("{told}") };
        assert_eq!((status, errcode.as_deref()), (404, Some("M_NOT_FOUND")));
    }
    // An invitation opens it.
    alice.post(&path(&closed, "invite"), json!({ "user_id": "@bob:hs2" })).await.ok();
    assert_eq!(served(&servers[1], &closed).await.unwrap()["room"]["name"], "Closed");
    join(&bob, &closed, "hs1").await;
    assert_eq!(served(&servers[1], &far).await.unwrap()["inaccessible_children"], json!([]));
    // Whom the room denies is shown nothing.
    let acl = json!({ "allow": ["*"], "deny": ["hs2"] });
    alice.put(&path(&open, "state/m.room.server_acl"), acl).await.ok();
    let shown = served(&servers[1], &far).await.unwrap();
    assert_eq!(shown["inaccessible_children"], json!([open]));
}

#[tokio::test]
async fn a_room_that_opens_itself_to_a_server_is_shown_at_once() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let club = space(&alice, "Club", "public").await;
    let allow = json!([{ "type": "m.room_membership", "room_id": club }]);
    let inner = room(&bob, "Inner", json!({ "join_rule": "restricted", "allow": allow })).await;
    put_below(&alice, &club, &inner, "hs2").await;
    // Nobody of hs2 is in the club: it cannot know that Alice is.
    assert_eq!(names(&alice, &club, "").await, ["Club"]);
    join(&bob, &club, "hs1").await;
    assert_eq!(names(&alice, &club, "").await, ["Club", "Inner"]);
}
