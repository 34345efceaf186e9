//! Bugs that were there once, each by its name.

use colonnade_testkit::TestServer;
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
    let wish = json!({ "room_version": "12", "creation_content": creators });
    let room = alice.post(CREATE, wish).await.ok();
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
