//! A past that is not here yet: events at a time and what was said around them.

use colonnade_federation::transport::{Request, TransportError};
use colonnade_testkit::{Client, TestServer, federation::Federation};
use serde_json::{Value, json};

use super::rooms::{create, encode, join, path, say};

async fn ts_of(client: &Client, room: &str, event: &str) -> i64 {
    let event = client.get(&path(room, &format!("event/{}", encode(event)))).await.ok();
    event["origin_server_ts"].as_i64().unwrap()
}

async fn at(client: &Client, room: &str, ts: i64, dir: &str) -> String {
    let room = encode(room);
    let address = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={dir}");
    client.get(&address).await.ok()["event_id"].as_str().unwrap().to_owned()
}

async fn served(
    from: &TestServer,
    room: &str,
    ts: i64,
    dir: &str,
) -> Result<Value, TransportError> {
    let transport = &from.inside().await.services.transport;
    let room = encode(room);
    let address = format!("/_matrix/federation/v1/timestamp_to_event/{room}?ts={ts}&dir={dir}");
    let answer = transport.send("hs1".try_into().unwrap(), Request::get(address)).await?;
    answer.json().await
}

/// Events some milliseconds apart.
async fn spoken(client: &Client, room: &str, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for number in 0..count {
        events.push(say(client, room, &format!("long ago {number}")).await);
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    events
}

#[tokio::test]
async fn the_event_at_a_time_is_found_where_history_is_missing() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    let said = spoken(&alice, &room, 5).await;
    let ts = ts_of(&alice, &room, &said[2]).await;
    for dir in ["f", "b"] {
        // Whoever joins knows nothing of the past.
        let there = served(&servers[1], &room, ts, dir).await;
        assert!(matches!(there, Err(TransportError::Status { status: 403, .. })), "{there:?}");
    }
    join(&bob, &room, "hs1").await;
    assert_eq!(at(&bob, &room, ts, "f").await, said[2]);
    assert_eq!(at(&bob, &room, ts, "b").await, said[2]);
    assert_eq!(at(&bob, &room, ts + 1, "f").await, said[3]);
    let there = served(&servers[1], &room, ts, "f").await.unwrap();
    assert_eq!((&there["event_id"], &there["origin_server_ts"]), (&json!(said[2]), &json!(ts)));
    let none = served(&servers[1], &room, 0, "b").await.unwrap_err();
    assert!(matches!(none, TransportError::Status { status: 404, .. }), "{none}");
}

#[tokio::test]
async fn what_was_said_around_an_event_is_fetched_with_it() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    let said = spoken(&alice, &room, 130).await;
    join(&bob, &room, "hs1").await;
    // More than a piece of history back.
    let around = path(&room, &format!("context/{}?limit=4", encode(&said[3])));
    let around = bob.get(&around).await.ok();
    let ids = |side: &str| -> Vec<String> {
        let events = around[side].as_array().unwrap().iter();
        events.map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(around["event"]["event_id"], json!(said[3]));
    assert_eq!(ids("events_before"), [said[2].clone(), said[1].clone()]);
    assert_eq!(ids("events_after"), [said[4].clone(), said[5].clone()]);
    let nothing = path(&room, &format!("context/{}", encode("$nowhere:hs1")));
    bob.get(&nothing).await.err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn another_server_is_not_told_of_events_that_it_may_not_see() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let hidden = json!([{ "type": "m.room.history_visibility",
        "content": { "history_visibility": "joined" } }]);
    let request = json!({ "preset": "public_chat", "initial_state": hidden });
    let room = create(&alice, request).await;
    let said = spoken(&alice, &room, 2).await;
    let ts = ts_of(&alice, &room, &said[0]).await;
    join(&bob, &room, "hs1").await;
    let next = served(&servers[1], &room, ts, "f").await.unwrap();
    assert!(!said.contains(&next["event_id"].as_str().unwrap().to_owned()), "{next}");
}

#[tokio::test]
async fn a_server_that_is_out_is_given_the_end_of_its_own_stay_alone() {
    let servers = Federation::start(3).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let room = create(&alice, json!({ "preset": "public_chat" })).await;
    join(&bob, &room, "hs1").await;
    let said = say(&alice, &room, "before").await;
    let given = async |from: usize, event: &str| {
        let transport = &servers[from].inside().await.services.transport;
        let address = format!("/_matrix/federation/v1/event/{}", encode(event));
        let answer = transport.send("hs1".try_into().unwrap(), Request::get(address)).await;
        let status = match answer {
            Ok(answer) => return answer.json::<Value>().await.unwrap()["pdus"][0]["type"].clone(),
            Err(TransportError::Status { status, .. }) => status,
            Err(error) => panic!("{error}"),
        };
        json!(status)
    };
    assert_eq!(given(1, &said).await, "m.room.message");
    let kick = json!({ "user_id": "@bob:hs2" });
    alice.post(&path(&room, "kick"), kick).await.ok();
    let member = path(&room, "state/m.room.member/@bob:hs2?format=event");
    let end = alice.get(&member).await.ok()["event_id"].as_str().unwrap().to_owned();
    let after = say(&alice, &room, "after").await;
    assert_eq!(given(1, &end).await, "m.room.member");
    assert_eq!((given(1, &said).await, given(1, &after).await), (json!(403), json!(403)));
    assert_eq!(given(2, &end).await, json!(403), "it is not of its users");
}
