//! The gateway in front of workers that say themselves who they are: it finds them by their slot map,
//! leads rooms to their owners, and follows when workers come and go.

use std::{net::SocketAddr, time::Duration};

use colonnade_gateway::{BUNDLED_ROUTES, RunOptions, Running, Source, run};
use colonnade_testkit::Client;
use serde_json::{Value, json};

use crate::{
    cluster::{Deployment, send_path, until_owners},
    process::{LONG, Server},
};

pub(crate) fn address(worker: &Server) -> String {
    worker.url.trim_start_matches("http://").to_owned()
}

/// The bundled routes, every pool discovered, with one worker to ask first.
pub(crate) fn gateway(seed: &Server) -> Running {
    gateway_by(&address(seed))
}

/// The same, with the worker's address.
pub(crate) fn gateway_by(seed: &str) -> Running {
    let text = BUNDLED_ROUTES
        .replace("127.0.0.1:8008", "127.0.0.1:0")
        .replace("127.0.0.1:8009", "127.0.0.1:0")
        .replace("workers: []", &format!("discover: true, workers: [\"{seed}\"]"));
    let mut options = RunOptions::new(Source::Text { name: "discovered.yaml".to_owned(), text });
    options.watch = false;
    run(options).unwrap()
}

/// What the gateway's admin listener answers.
pub(crate) async fn asked(admin: SocketAddr, target: String) -> Value {
    let ask = move || colonnade_gateway::ask_admin(admin, "GET", &target, "").unwrap();
    let (status, body) = tokio::task::spawn_blocking(ask).await.unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until the gateway has the map of this epoch, or a later one.
pub(crate) async fn until_epoch(gateway: &Running, epoch: u64) {
    let admin = gateway.admin_addr().unwrap();
    let wait = async {
        while asked(admin, "/pools".to_owned()).await["slot_map_epoch"].as_u64() < Some(epoch) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the gateway follows the map");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_finds_workers_and_owners_by_the_slot_map() {
    let deployment = Deployment::new();
    let mut workers = vec![deployment.worker("all"), deployment.worker("all")];
    let map = until_owners(&workers[0], 2).await;
    let gateway = gateway(&workers[0]);
    until_epoch(&gateway, map["epoch"].as_u64().unwrap()).await;
    let url = format!("http://{}", gateway.addrs()[0]);
    let admin = gateway.admin_addr().unwrap();

    let alice = Client::register(&url, "alice").await;
    let mut rooms = Vec::new();
    let mut owners = std::collections::BTreeSet::new();
    for n in 0..12 {
        let made = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
        let room = made["room_id"].as_str().unwrap().to_owned();
        let body = json!({ "msgtype": "m.text", "body": "hello" });
        alice.put(&send_path(&room, "one"), body).await.ok();
        let target = colonnade_gateway::explain_target("PUT", &send_path(&room, "x"), None, None);
        let explained = asked(admin, target).await;
        assert!(
            explained["why"].to_string().contains("belongs to this worker"),
            "{n}: {explained}"
        );
        owners.insert(explained["worker"].as_str().unwrap().to_owned());
        rooms.push(room);
    }
    let both: std::collections::BTreeSet<_> = workers.iter().map(address).collect();
    assert_eq!(owners, both, "twelve rooms have owners among both");
    // From outside nobody sees the map.
    assert_eq!(Client::new(&url).get("/_colonnade/slots").await.status, 404);

    // A third one comes, and the one that was asked first goes; nobody edits a file.
    workers.push(deployment.worker("all"));
    let map = until_owners(&workers[1], 3).await;
    until_epoch(&gateway, map["epoch"].as_u64().unwrap()).await;
    workers.remove(0).stop();
    let map = until_owners(&workers[0], 2).await;
    until_epoch(&gateway, map["epoch"].as_u64().unwrap()).await;
    for room in &rooms {
        let body = json!({ "msgtype": "m.text", "body": "still here" });
        alice.put(&send_path(room, "two"), body).await.ok();
        let target = colonnade_gateway::explain_target("PUT", &send_path(room, "x"), None, None);
        let worker = asked(admin, target).await["worker"].as_str().unwrap().to_owned();
        assert!(workers.iter().any(|known| address(known) == worker), "{worker}");
    }
    gateway.shutdown(Duration::from_secs(5)).await;
}
