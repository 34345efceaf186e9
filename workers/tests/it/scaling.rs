//! Workers come and go behind the gateway while clients talk: no request of theirs fails.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use colonnade_gateway::Running;
use colonnade_testkit::Client;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    cluster::{Deployment, map, message, room_of, send_path, until_owners},
    discovered::{gateway, until_epoch},
    process::{LONG, Server},
};

/// Clients at work: each writes in a room of its own and waits for what it wrote.
const CLIENTS: usize = 6;
/// Messages of all clients between one change and the next.
const MESSAGES_BETWEEN: u64 = 30;

/// Whatever is not owned and not the sync of somebody.
pub(crate) const REST: &str = "client,initial_sync,sliding_sync,federation_in,media,keys,to_device,account_data,\
     push_rules,presence,typing,receipts,device_lists,thread_subscriptions,quarantined_media,user_dir";

/// What the clients share.
#[derive(Clone)]
pub(crate) struct Load {
    url: Arc<str>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Load {
    /// Clients at work, by the gateway at `url`.
    pub(crate) fn start(url: &str) -> (Self, JoinSet<()>) {
        let load = Self { url: url.into(), stop: Arc::default(), sent: Arc::default() };
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(talk(load.clone(), number));
        }
        (load, clients)
    }

    /// Tells the clients to look at their rooms once more and end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Waits until the clients sent more messages.
    pub(crate) async fn goes_on(&self) {
        let until = self.sent.load(Ordering::Acquire) + MESSAGES_BETWEEN;
        let wait = async {
            while self.sent.load(Ordering::Acquire) < until {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("the clients go on");
    }
}

/// One client: sends, says that it types and has read, asks for keys, and waits for its message to come
/// back. Every request is made once, and must succeed.
async fn talk(load: Load, number: usize) {
    let user = Client::register(&load.url, &format!("user{number}")).await;
    let me = user.user_id.clone();
    let room = room_of(&user).await;
    let base = format!("/_matrix/client/v3/rooms/{room}");
    let synced = user.get("/_matrix/client/v3/sync").await.ok();
    let mut since = synced["next_batch"].as_str().unwrap().to_owned();
    let mut n = 0_u64;
    while !load.stop.load(Ordering::Acquire) {
        let body = n.to_string();
        let typing = json!({ "typing": true, "timeout": 5000 });
        user.put(&format!("{base}/typing/{me}"), typing).await.ok();
        let sent = user.put(&send_path(&room, &body), message(&body)).await.ok();
        let mut bodies = Vec::new();
        while bodies.is_empty() {
            let path = format!("/_matrix/client/v3/sync?timeout=10000&since={since}");
            let synced = user.get(&path).await.ok();
            since = synced["next_batch"].as_str().unwrap().to_owned();
            let joined = &synced["rooms"]["join"][&room]["timeline"]["events"];
            let events = joined.as_array().into_iter().flatten();
            bodies.extend(events.map(|event| event["content"]["body"].clone()));
        }
        assert_eq!(bodies, [json!(body)], "what was sent comes back, once");
        let event = sent["event_id"].as_str().unwrap();
        user.post(&format!("{base}/receipt/m.read/{event}"), json!({})).await.ok();
        let asked = json!({ "device_keys": { &me: [] } });
        user.post("/_matrix/client/v3/keys/query", asked).await.ok();
        n += 1;
        load.sent.fetch_add(1, Ordering::AcqRel);
    }
    let page = user.get(&format!("{base}/messages?dir=f&limit=1000")).await.ok();
    let events = page["chunk"].as_array().unwrap().iter();
    let bodies: Vec<_> = events.filter_map(|event| event["content"]["body"].as_str()).collect();
    let expected: Vec<String> = (0..n).map(|n| n.to_string()).collect();
    assert_eq!(bodies, expected);
}

/// Waits for the clients; one that failed ends the test at once, and says how.
pub(crate) async fn all_end_well(mut clients: JoinSet<()>) {
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

/// Waits until the gateway knows exactly these workers, and returns the epoch.
pub(crate) async fn until_known(gateway: &Running, workers: &[&Server], owners: usize) {
    let last = workers.last().unwrap();
    let settled = until_owners(last, owners).await;
    until_epoch(gateway, settled["epoch"].as_u64().unwrap()).await;
    let known = map(last, "").await;
    let known = known["workers"].as_array().unwrap().iter();
    let known: BTreeSet<_> = known.map(|worker| worker["incarnation"].as_i64().unwrap()).collect();
    assert_eq!(known.len(), workers.len(), "{known:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_workers_come_and_go() {
    let deployment = Deployment::new();
    let rest = deployment.worker(REST);
    let (mut sync, mut rooms) = (deployment.worker("sync"), deployment.worker("rooms"));
    let gateway = gateway(&rest);
    until_known(&gateway, &[&rest, &sync, &rooms], 1).await;
    let (load, clients) = Load::start(&format!("http://{}", gateway.addrs()[0]));
    let changes = async {
        for _ in 0..2 {
            load.goes_on().await;
            let added = deployment.worker("sync");
            until_known(&gateway, &[&rest, &sync, &rooms, &added], 1).await;
            load.goes_on().await;
            let log = std::mem::replace(&mut sync, added).stop();
            assert!(!log.contains("panicked"), "{log}");
            load.goes_on().await;
            let added = deployment.worker("rooms");
            until_known(&gateway, &[&rest, &sync, &rooms, &added], 2).await;
            load.goes_on().await;
            let log = std::mem::replace(&mut rooms, added).stop();
            assert!(!log.contains("panicked"), "{log}");
            until_known(&gateway, &[&rest, &sync, &rooms], 1).await;
        }
        load.goes_on().await;
        load.stop();
    };
    tokio::join!(changes, all_end_well(clients));
    gateway.shutdown(Duration::from_secs(5)).await;
}
