//! What is done without being asked: one process does it at a time, and another when that one dies.

use std::{collections::BTreeSet, time::Duration};

use colonnade_testkit::Client;
use serde_json::{Value, json};

use crate::{
    cluster::Deployment,
    process::{LONG, Server},
};

/// Who owns slots of a role, by name; with how many slots have an owner.
async fn holders(worker: &Server, role: &str) -> (BTreeSet<String>, i64) {
    let map = Client::new(&worker.url).get("/_colonnade/slots").await.body;
    let name_of = |incarnation: &Value| {
        let workers = map["workers"].as_array().unwrap();
        let found = workers.iter().find(|worker| worker["incarnation"] == *incarnation);
        found.map_or_else(|| format!("not in the map: {incarnation}"), |w| w["name"].to_string())
    };
    let ranges = map["roles"][role].as_array().cloned().unwrap_or_default();
    let slots = ranges.iter().map(|range| range[1].as_i64().unwrap() - range[0].as_i64().unwrap());
    (ranges.iter().map(|range| name_of(&range[2])).collect(), slots.sum())
}

/// Waits until so many processes, with this in their names, share all slots of a role.
async fn until_shared(worker: &Server, role: &str, (count, name): (usize, &str)) {
    let wait = async {
        loop {
            let (holders, slots) = holders(worker, role).await;
            let are_those = holders.iter().all(|holder| holder.contains(name));
            if (holders.len(), slots, are_those) == (count, 64, true) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let shared = tokio::time::timeout(LONG, wait).await;
    shared.unwrap_or_else(|_| panic!("{role} is shared by {count} of {name}"));
}

/// Says a word, and waits until a search finds it.
async fn is_found(client: &Client, room: &str, word: &str) {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{word}");
    client.put(&path, json!({ "msgtype": "m.text", "body": word })).await.ok();
    let request = json!({ "search_categories": { "room_events": { "search_term": word } } });
    let wait = async {
        loop {
            let found = client.post("/_matrix/client/v3/search", request.clone()).await.ok();
            if found["search_categories"]["room_events"]["count"] == 1 {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("nobody indexes {word}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_taken_over() {
    let deployment = Deployment::new();
    let front = deployment.worker("client,rooms");
    // Nobody lists it: everybody does it.
    until_shared(&front, "background", (1, "client")).await;
    let alice = Client::register(&front.url, "alice").await;
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap();
    is_found(&alice, room, "first").await;

    let (one, two) = (deployment.worker("background"), deployment.worker("background,media"));
    until_shared(&front, "background", (2, "background")).await;
    until_shared(&front, "media", (1, "media")).await;
    // Roles nobody lists are shared by all three.
    until_shared(&front, "pusher", (3, " at ")).await;
    until_shared(&front, "federation_sender", (3, " at ")).await;
    is_found(&alice, room, "second").await;

    // One dies, the other does all of it; then that one stops, and everybody does it again.
    one.kill();
    until_shared(&front, "background", (1, "media")).await;
    is_found(&alice, room, "third").await;
    two.stop();
    until_shared(&front, "background", (1, "client")).await;
    is_found(&alice, room, "fourth").await;
    is_found(&alice, room, "fifth").await;
    let log = front.stop();
    assert!(!log.contains("panicked"), "{log}");
}
