//! Many worker processes over one PostgreSQL and one Redis: any of them answers for any room, who
//! dies is replaced, who stops hands over, and nothing acknowledged is lost or doubled meanwhile.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use colonnade_testkit_redis as redis;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::process::{LONG, Server, run};

/// Senders at work at a time, each in a room of its own.
const SENDERS: u64 = 4;

/// What the processes share.
pub(crate) struct Deployment {
    folder: tempfile::TempDir,
    database: String,
    redis: redis::Server,
    /// What each of its workers logged.
    logs: Mutex<Vec<Arc<Mutex<String>>>>,
}

/// A test that failed shows what its workers complained about.
impl Drop for Deployment {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (number, log) in self.logs.lock().unwrap().iter().enumerate() {
            let log = log.lock().unwrap();
            let bad = |line: &&str| !line.contains(" INFO ") && !line.contains(" DEBUG ");
            log.lines().filter(bad).for_each(|line| println!("worker {number}: {line}"));
        }
    }
}

impl Deployment {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: format!("database={}", Cluster::shared().database()),
            redis: redis::Server::start(),
            logs: Mutex::default(),
        }
    }

    /// The folder of all of them.
    pub(crate) fn path(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The database, as a setting.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Starts a worker of these pools.
    pub(crate) fn worker(&self, pools: &str) -> Server {
        self.worker_with(pools, &[])
    }

    /// Starts a worker of these pools with further arguments.
    pub(crate) fn worker_with(&self, pools: &str, further: &[&str]) -> Server {
        let redis = format!("redis.url={}", self.redis.url());
        let open = ["--set", "registration.open=true", "--set", "rate_limits.enabled=false"];
        let mut arguments = vec!["--set", &self.database, "--set", &redis];
        arguments.extend(open);
        arguments.extend(further);
        let worker = Server::worker(self.folder.path(), pools, &arguments);
        self.logs.lock().unwrap().push(Arc::clone(&worker.log));
        worker
    }
}

pub(crate) async fn map(worker: &Server, query: &str) -> Value {
    let path = format!("/_colonnade/slots{query}");
    let answer = Client::new(&worker.url).get(&path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// Waits until a worker sees so many workers that own rooms, and nobody who leaves, and returns the
/// map.
pub(crate) async fn until_owners(worker: &Server, count: usize) -> Value {
    let wait = async {
        let mut after = String::new();
        loop {
            let map = map(worker, &after).await;
            // The first map may be from before any owner has joined.
            let ranges = map["owners"]["rooms"].as_array().map_or(&[][..], Vec::as_slice);
            let owners: std::collections::BTreeSet<_> =
                ranges.iter().map(|range| range[2].as_i64().unwrap()).collect();
            let slots: i64 = ranges
                .iter()
                .map(|range| range[1].as_i64().unwrap() - range[0].as_i64().unwrap())
                .sum();
            let mut workers = map["workers"].as_array().unwrap().iter();
            let settled = workers.all(|worker| worker["state"] == "live");
            if owners.len() == count && slots == 1024 && settled {
                return map;
            }
            after = format!("?after={}", map["epoch"]);
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the slots are dealt out")
}

pub(crate) async fn room_of(client: &Client) -> String {
    let made = client.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    made["room_id"].as_str().unwrap().to_owned()
}

pub(crate) fn send_path(room: &str, txn: &str) -> String {
    format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{txn}")
}

pub(crate) fn message(text: &str) -> Value {
    json!({ "msgtype": "m.text", "body": text })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_worker_answers_for_any_room() {
    let deployment = Deployment::new();
    let first = deployment.worker("client,sync");
    let nobody = run(
        deployment.folder.path(),
        &["--listen", "127.0.0.1:0", "--set", &deployment.database],
        "",
    );
    assert!(nobody.err.contains("another process of colonnade uses this database"), "{nobody:?}");
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = run(
        elsewhere.path(),
        &["worker", "--pool", "rooms", "--bind", "127.0.0.1:0", "--set", &deployment.database],
        "",
    );
    assert!(stranger.err.contains("signing.key"), "a worker with another key: {stranger:?}");

    let owners = [deployment.worker("rooms"), deployment.worker("rooms")];
    let map = until_owners(&first, 2).await;
    assert_eq!(map["workers"].as_array().unwrap().len(), 4, "{map}");
    let workers: Vec<&Server> = owners.iter().chain([&first]).collect();

    // Made by one who owns nothing, written to through everybody, read by everybody at once.
    let alice = Client::register(&first.url, "alice").await;
    for round in 0..5 {
        let room = room_of(&alice).await;
        let mut since = None;
        for (n, worker) in workers.iter().enumerate() {
            let there = alice.at(&worker.url);
            let body = format!("{round} {n}");
            there.put(&send_path(&room, &body.replace(' ', "-")), message(&body)).await.ok();
            // Read your writes, by a token of any worker.
            let from = since.map_or(String::new(), |since| format!("?since={since}"));
            let synced = there.get(&format!("/_matrix/client/v3/sync{from}")).await.ok();
            let events = synced["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap();
            assert_eq!(events.last().unwrap()["content"]["body"], *body, "{synced}");
            since = Some(synced["next_batch"].as_str().unwrap().to_owned());
        }
        // State and membership, refused and allowed.
        let bob = Client::register(&first.url, &format!("bob{round}")).await;
        let topic = format!("/_matrix/client/v3/rooms/{room}/state/m.room.topic");
        for worker in &workers {
            bob.at(&worker.url).put(&topic, json!({ "topic": "x" })).await.err(403, "M_FORBIDDEN");
            alice.at(&worker.url).put(&topic, json!({ "topic": worker.url })).await.ok();
            let read = alice.at(&worker.url).get(&topic).await.ok();
            assert_eq!(read["topic"], *worker.url);
        }
    }
    // Nobody but a process of ours calls the owner.
    let call = Client::new(&owners[0].url)
        .post("/_colonnade/internal/rooms", json!({ "room": "!a:b", "ask": { "Send": [] } }))
        .await;
    assert_eq!(call.status, 403, "{call:?}");

    // One stops: it hands over, and is gone from the map.
    let [one, two] = owners;
    let room = room_of(&alice).await;
    one.stop();
    let map = until_owners(&first, 1).await;
    assert_eq!(map["workers"].as_array().unwrap().len(), 3, "{map}");
    alice.put(&send_path(&room, "after"), message("after")).await.ok();
    two.stop();
    first.stop();
}

/// What one sender knows.
struct Record {
    room: String,
    /// Event ids by message number, as acknowledged.
    acknowledged: Vec<String>,
    /// The longest time without an acknowledgement.
    gap: Duration,
}

/// The workers that run, as clients know them.
type Urls = Arc<RwLock<Vec<String>>>;

/// Sends as clients do: one message after the other, again until it is acknowledged.
async fn sender(
    alice: Client,
    room: String,
    urls: Urls,
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU64>,
) -> Record {
    let mut record = Record { room, acknowledged: Vec::new(), gap: Duration::ZERO };
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15));
    let http = http.build().unwrap();
    let mut turn = 0;
    let mut last = std::time::Instant::now();
    while !stop.load(Ordering::Acquire) {
        let number = record.acknowledged.len();
        let url = {
            let urls = urls.read().unwrap();
            urls[turn % urls.len()].clone()
        };
        turn += 1;
        let path = send_path(&record.room, &number.to_string());
        let sent = http
            .put(format!("{url}{path}"))
            .bearer_auth(alice.token.as_deref().unwrap())
            .json(&message(&number.to_string()))
            .send()
            .await;
        let Ok(answer) = sent else { continue };
        if answer.status() != 200 {
            continue;
        }
        let Ok(body) = answer.json::<Value>().await else { continue };
        record.acknowledged.push(body["event_id"].as_str().unwrap().to_owned());
        record.gap = record.gap.max(last.elapsed());
        last = std::time::Instant::now();
        total.fetch_add(1, Ordering::AcqRel);
    }
    record
}

/// Everything sync says, one answer after the other, from whichever worker has its turn.
async fn reader(alice: Client, urls: Urls, stop: Arc<AtomicBool>) -> HashMap<String, Vec<Value>> {
    let mut seen: HashMap<String, Vec<Value>> = HashMap::new();
    let filter = r#"{"room":{"timeline":{"limit":1000,"types":["m.room.message"]}}}"#;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15));
    let http = http.build().unwrap();
    let mut since: Option<String> = None;
    let mut turn = 0;
    loop {
        let ending = stop.load(Ordering::Acquire);
        let url = {
            let urls = urls.read().unwrap();
            urls[turn % urls.len()].clone()
        };
        turn += 1;
        let mut query = vec![("filter", filter), ("timeout", "1000")];
        query.extend(since.as_deref().map(|since| ("since", since)));
        let answer = http
            .get(format!("{url}/_matrix/client/v3/sync"))
            .query(&query)
            .bearer_auth(alice.token.as_deref().unwrap())
            .send()
            .await;
        let Ok(answer) = answer else { continue };
        if answer.status() != 200 {
            continue;
        }
        let Ok(body) = answer.json::<Value>().await else { continue };
        since = Some(body["next_batch"].as_str().unwrap().to_owned());
        for (room, joined) in body["rooms"]["join"].as_object().into_iter().flatten() {
            assert_ne!(joined["timeline"]["limited"], true, "more than a page was missed");
            let events = joined["timeline"]["events"].as_array().into_iter().flatten();
            seen.entry(room.clone()).or_default().extend(events.cloned());
        }
        // What was acknowledged before the end is in an answer that was asked for after it.
        if ending {
            return seen;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_when_owners_die() {
    let deployment = Deployment::new();
    let front = deployment.worker("client,sync");
    let mut owners: Vec<Server> = (0..2).map(|_| deployment.worker("rooms")).collect();
    until_owners(&front, 2).await;
    let alice = Client::register(&front.url, "alice").await;
    let urls: Urls = Arc::new(RwLock::new(vec![front.url.clone()]));
    let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut senders = tokio::task::JoinSet::new();
    let mut rooms = Vec::new();
    for _ in 0..SENDERS {
        let room = room_of(&alice).await;
        rooms.push(room.clone());
        let (urls, stop, total) = (Arc::clone(&urls), Arc::clone(&stop), Arc::clone(&total));
        senders.spawn(sender(alice.clone(), room, urls, stop, total));
    }
    let reader_stop = Arc::new(AtomicBool::new(false));
    let reading = tokio::spawn(reader(alice.clone(), Arc::clone(&urls), Arc::clone(&reader_stop)));
    let grows = async |by: u64| {
        let before = total.load(Ordering::Acquire);
        let wait = async {
            while total.load(Ordering::Acquire) < before + by {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("messages are acknowledged");
    };
    for round in 0..4 {
        grows(40).await;
        // The clients meet owners, too.
        *urls.write().unwrap() = vec![front.url.clone()];
        let victim = owners.remove(0);
        if round == 3 {
            // Paused until others have what it owned: it notices, and ends.
            victim.signal(Signal::SIGSTOP);
            grows(40).await;
            until_owners(&front, 1).await;
            victim.signal(Signal::SIGCONT);
            let mut victim = victim;
            assert_eq!(victim.wait(), Some(1), "{}", victim.log.lock().unwrap());
        } else {
            victim.kill();
        }
        grows(40).await;
        owners.push(deployment.worker("rooms"));
        until_owners(&front, 2).await;
        urls.write().unwrap().extend(owners.iter().map(|owner| owner.url.clone()));
    }
    grows(40).await;
    stop.store(true, Ordering::Release);
    let records = senders.join_all().await;
    reader_stop.store(true, Ordering::Release);
    let seen = reading.await.unwrap();
    let mut gaps = BTreeMap::new();
    for record in &records {
        gaps.insert(record.room.clone(), record.gap);
        check(record, &seen[&record.room]);
        let page = format!("/_matrix/client/v3/rooms/{}/messages?dir=f&limit=1000", record.room);
        check(record, &all_messages(&alice, &page).await);
    }
    println!("{} acknowledged; the longest pauses: {gaps:?}", total.load(Ordering::Acquire));
    for worker in owners.into_iter().chain([front]) {
        let log = worker.stop();
        assert!(!log.contains("panicked"), "{log}");
    }
}

async fn all_messages(alice: &Client, path: &str) -> Vec<Value> {
    let (mut events, mut from) = (Vec::new(), String::new());
    loop {
        let page = alice.get(&format!("{path}{from}")).await.ok();
        let chunk = page["chunk"].as_array().unwrap();
        events.extend(chunk.iter().filter(|event| event["type"] == "m.room.message").cloned());
        match page["end"].as_str() {
            Some(end) if !chunk.is_empty() => from = format!("&from={end}"),
            _ => return events,
        }
    }
}

/// Every acknowledged message is there, once, in order; at most the one under way is there besides.
#[track_caller]
fn check(record: &Record, events: &[Value]) {
    let bodies: Vec<&str> =
        events.iter().map(|event| event["content"]["body"].as_str().unwrap()).collect();
    let count = record.acknowledged.len();
    let expected: Vec<String> = (0..bodies.len()).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected, "{}", record.room);
    assert!(bodies.len() == count || bodies.len() == count + 1, "{} of {count}", bodies.len());
    for (event, acknowledged) in events.iter().zip(&record.acknowledged) {
        assert_eq!(event["event_id"], **acknowledged);
    }
}
