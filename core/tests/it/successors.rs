//! Rooms that replace others, made by hand: what their members keep about the old one follows them, and
//! no room replaces itself.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, encode, in_room};

fn own(client: &Client, rest: &str) -> String {
    format!("/_matrix/client/v3/user/{}/{rest}", encode(&client.user_id))
}

/// Gives a room a tag, makes it a direct chat with somebody and silences it.
async fn keep(client: &Client, room: &str, with: &Client) {
    let tag = own(client, &format!("rooms/{}/tags/m.favourite", encode(room)));
    client.put(&tag, json!({ "order": 0.5 })).await.ok();
    let direct = json!({ with.user_id.clone(): [room] });
    client.put(&own(client, "account_data/m.direct"), direct).await.ok();
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", encode(room));
    client.put(&rule, json!({ "actions": [] })).await.ok();
}

/// Tells which of the three a room has.
async fn kept(client: &Client, room: &str) -> (bool, bool, bool) {
    let tags = client.get(&own(client, &format!("rooms/{}/tags", encode(room)))).await.ok();
    let direct = client.get(&own(client, "account_data/m.direct")).await;
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", encode(room));
    let rule = client.get(&rule).await;
    let tagged = tags["tags"]["m.favourite"]["order"] == 0.5;
    (tagged, direct.body.to_string().contains(room), rule.status == 200)
}

async fn successor(maker: &Client, old: &str, preset: &str) -> String {
    let content = json!({ "predecessor": { "room_id": old, "event_id": "$some" } });
    create(maker, json!({ "preset": preset, "creation_content": content })).await
}

const ALL: (bool, bool, bool) = (true, true, true);
const NONE: (bool, bool, bool) = (false, false, false);

#[tokio::test]
async fn a_successor_made_by_hand_takes_along_what_its_members_kept() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    let old = create(&alice, json!({ "preset": "public_chat" })).await;
    for other in [&bob, &eve] {
        other.post(&in_room(&old, "join"), json!({})).await.ok();
    }
    keep(&alice, &old, &bob).await;
    keep(&bob, &old, &alice).await;
    keep(&eve, &old, &alice).await;
    let new = successor(&alice, &old, "public_chat").await;
    assert_eq!(kept(&alice, &new).await, ALL);
    assert_eq!(kept(&bob, &new).await, NONE, "he has not come in yet");
    bob.post(&in_room(&new, "join"), json!({})).await.ok();
    assert_eq!(kept(&bob, &new).await, ALL);
    // A join by hand is one, too.
    let member = in_room(&new, &format!("state/m.room.member/{}", encode(&eve.user_id)));
    eve.put(&member, json!({ "membership": "join" })).await.ok();
    assert_eq!(kept(&eve, &new).await, ALL);
}

#[tokio::test]
async fn a_successor_of_a_foreign_room_takes_nothing_along() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let old = create(&alice, json!({})).await;
    let mine = create(&bob, json!({})).await;
    keep(&bob, &mine, &alice).await;
    let new = successor(&bob, &old, "private_chat").await;
    assert_eq!(kept(&bob, &new).await, NONE);
    for odd in [json!("text"), json!({}), json!({ "room_id": 1 }), json!({ "room_id": "!no:x" })] {
        let content = json!({ "predecessor": odd });
        create(&bob, json!({ "creation_content": content })).await;
    }
}

#[tokio::test]
async fn a_room_does_not_replace_itself() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for version in ["10", "11", "12"] {
        let room = create(&alice, json!({ "room_version": version })).await;
        let other = create(&alice, json!({ "room_version": version })).await;
        let tombstone =
            |target: &str| -> Value { json!({ "body": "moved", "replacement_room": target }) };
        let path = in_room(&room, "state/m.room.tombstone");
        alice.put(&path, tombstone(&room)).await.err(400, "M_INVALID_PARAM");
        alice.put(&path, tombstone(&other)).await.ok();
    }
}
