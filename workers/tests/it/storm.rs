//! More clients at once than PostgreSQL has connections for: each is answered, some with 503, nothing
//! that was acknowledged is lost, and afterwards all is as before. What is too small is said at start.

use std::time::Duration;

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use serde_json::json;

use crate::process::{LONG, Server};

/// Clients at once.
const CLIENTS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_clients_and_sixteen_connections() {
    let settings = ["max_connections=16", "superuser_reserved_connections=3"];
    let cluster = Cluster::start_in(&std::env::temp_dir(), &settings);
    let database = format!("database={}", cluster.database());
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let limits = "rate_limits.enabled=false";
        let open = "registration.open=true";
        let arguments = ["--set", &database, "--set", limits, "--set", open];
        Server::worker(folder.path(), "all", &arguments)
    };
    let workers = [start(), start()];
    let said = "2 processes may open 20 connections (10 each), and 13 are allowed: raise \
         max_connections";
    assert!(workers[1].log.lock().unwrap().contains(said), "{}", workers[1].log.lock().unwrap());

    let alice = Client::register(&workers[0].url, "alice").await;
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let mut storm = tokio::task::JoinSet::new();
    for n in 0..CLIENTS {
        let alice = alice.at(&workers[n % 2].url);
        let send = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{n}");
        let members = format!("/_matrix/client/v3/rooms/{room}/members");
        storm.spawn(async move {
            let members = alice.get(&members).await;
            let sent = alice.put(&send, json!({ "msgtype": "m.text", "body": "x" })).await;
            for answer in [&members, &sent] {
                assert!(matches!(answer.status, 200 | 429 | 503), "{answer:?}");
                assert!(answer.status == 200 || answer.body["errcode"].is_string(), "{answer:?}");
            }
            sent
        });
    }
    let answers = tokio::time::timeout(LONG, storm.join_all()).await.expect("all are answered");
    let acknowledged = answers.iter().filter(|sent| sent.status == 200);
    let mut acknowledged: Vec<String> =
        acknowledged.map(|sent| sent.body["event_id"].as_str().unwrap().to_owned()).collect();
    assert!(!acknowledged.is_empty(), "nobody was served");
    // Afterwards all is well at both, and everything is there, once.
    let well = async {
        for worker in &workers {
            let content = json!({ "msgtype": "m.text", "body": "well again" });
            let path =
                format!("/_matrix/client/v3/rooms/{room}/send/m.room.notice/{}", worker.pid());
            while alice.at(&worker.url).put(&path, content.clone()).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::time::timeout(LONG, well).await.expect("both are well again");
    let (mut there, mut from) = (Vec::new(), String::new());
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=100{from}");
        let page = alice.get(&path).await.ok();
        let events = page["chunk"].as_array().unwrap();
        let messages = events.iter().filter(|event| event["type"] == "m.room.message");
        there.extend(messages.map(|event| event["event_id"].as_str().unwrap().to_owned()));
        let Some(end) = page["end"].as_str() else { break };
        from = format!("&from={end}");
    }
    there.sort();
    acknowledged.sort();
    let lost = acknowledged.iter().filter(|event| there.binary_search(event).is_err()).count();
    assert_eq!(lost, 0, "of {} acknowledged messages", acknowledged.len());
    there.dedup();
    assert!(there.len() <= CLIENTS, "a message is there twice");
    for worker in workers {
        worker.stop();
    }
}
