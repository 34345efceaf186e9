//! The process that tells push gateways is killed again and again: every notification arrives, in order, and none
//! again but the one that was under way.

use std::time::Duration;

use colonnade_testkit::{
    Client,
    push_gateway::{Manner, PushGateway},
};
use serde_json::json;

use crate::process::Server;

/// How often the process is killed.
const ROUNDS: usize = 6;
/// Messages before each time.
const MESSAGES: usize = 4;

fn start(folder: &std::path::Path) -> Server {
    let settings = ["rate_limits.enabled=false", "outgoing.allowed_ranges=[\"127.0.0.0/8\"]"];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    Server::start_with(folder, &arguments)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_no_notification_and_repeats_at_most_one() {
    let (folder, gateway) = (tempfile::tempdir().unwrap(), PushGateway::start().await);
    let mut server = start(folder.path());
    let mut alice = Client::register(&server.url, "alice").await;
    let bob = Client::register(&server.url, "bob").await;
    let room = json!({ "preset": "public_chat" });
    let room = alice.post("/_matrix/client/v3/createRoom", room).await.ok();
    let room = room["room_id"].as_str().unwrap().replace('!', "%21");
    bob.post(&format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await.ok();
    let pusher = json!({ "kind": "http", "app_id": "app", "pushkey": "key", "lang": "en",
        "app_display_name": "App", "device_display_name": "Phone", "data": { "url": gateway.url } });
    bob.post("/_matrix/client/v3/pushers/set", pusher).await.ok();
    let mut said = Vec::new();
    for round in 0..ROUNDS {
        // In every other round the gateway is away while it happens.
        let is_away = round % 2 == 1;
        gateway.does(if is_away { Manner::Fails(503) } else { Manner::Takes });
        for number in 0..MESSAGES {
            let text = json!({ "msgtype": "m.text", "body": format!("{round} {number}") });
            let path =
                format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{round}-{number}");
            let event = alice.put(&path, text).await.ok();
            said.push(event["event_id"].as_str().unwrap().to_owned());
        }
        let refused = gateway.refused();
        while is_away && gateway.refused() == refused {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.kill();
        gateway.does(Manner::Takes);
        server = start(folder.path());
        alice = alice.at(&server.url);
    }
    let last = said.last().unwrap().clone();
    gateway.told(|told| told["event_id"] == last).await;
    let told = gateway.taken().into_iter();
    let mut told: Vec<String> =
        told.filter_map(|told| Some(told["event_id"].as_str()?.to_owned())).collect();
    let all = told.len();
    told.dedup();
    assert_eq!(told, said, "each, in order");
    assert!(all - told.len() <= ROUNDS, "at most one again for each time");
    server.kill();
}
