//! kill -9 under load, again and again, of the server on SQLite, of the server on PostgreSQL, and of
//! PostgreSQL under the server: every acknowledged event is there exactly once, in the order
//! in which its sender sent, and every sync token ever given is still good.
//!
//! Senders do what clients do: one message after the other, and what was not acknowledged is sent
//! again under the same transaction id after the next start. A reader syncs all the time.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use serde_json::{Value, json};
use tokio::{sync::Mutex, task::JoinSet};

use crate::process::Server;

/// The environment variable that says how often the server is killed on SQLite.
const KILLS: &str = "COLONNADE_TEST_KILLS";
/// How often it is unless that says so; `make test-all` does it fifty times.
const ROUNDS: u64 = 20;
/// How often the server is killed on PostgreSQL, and how often PostgreSQL is.
const ROUNDS_POSTGRES: u64 = 15;
/// Senders at work at a time; two share a room.
const SENDERS: usize = 4;
/// How long a server that runs may take to acknowledge anything: far beyond what a busy machine needs.
const PROGRESS_MAX: Duration = Duration::from_secs(60);
/// Rooms they send to.
const ROOMS: usize = 2;
/// The longest time under load before the kill.
const LOAD_MS_MAX: u64 = 350;
/// Sync answers whose tokens are tried again at the end.
const TOKENS_KEPT: usize = 40;

/// What one sender knows.
#[derive(Default)]
struct Sent {
    /// The number of the message to send next, or again.
    next: u64,
    /// Event ids by message number, as acknowledged.
    acknowledged: Vec<String>,
}

/// What the reader knows.
#[derive(Default)]
struct Seen {
    since: Option<String>,
    /// Our messages in the order in which sync gave them: (room, event id, sender, number).
    events: Vec<Message>,
    /// Old tokens with how many messages had been seen when they were given.
    tokens: Vec<(String, usize)>,
}

type Message = (String, String, u64, u64);

/// Where a server keeps its data, and how it is told.
struct Place {
    folder: tempfile::TempDir,
    database: Option<String>,
}

impl Place {
    fn on(database: Option<String>) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), database }
    }

    fn start(&self) -> Server {
        let mut arguments = vec!["--set".to_owned(), "rate_limits.enabled=false".to_owned()];
        if let Some(url) = &self.database {
            arguments.extend(["--set".to_owned(), format!("database={url}")]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Server::start_with(self.folder.path(), &arguments)
    }
}

#[expect(clippy::disallowed_methods, reason = "how long it takes, is for the test binary alone")]
fn rounds() -> u64 {
    std::env::var(KILLS).map_or(ROUNDS, |text| text.parse().expect("a number of rounds"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    kill_again_and_again(&Place::on(None), rounds()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_postgresql() {
    let place = Place::on(Some(Cluster::shared().database()));
    kill_again_and_again(&place, ROUNDS_POSTGRES).await;
}

/// The server stays up while its database goes down, properly and as in a crash by turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_postgresql_restarts() {
    let seed = std::process::id() as u64;
    println!("seed {seed}");
    let mut random = Lcg(seed);
    let cluster = Arc::new(Cluster::start());
    let place = Place::on(Some(cluster.database()));
    let world = World::new(&place).await;
    let server = place.start();
    for round in 0..ROUNDS_POSTGRES {
        let before = world.acknowledged();
        let work = world.load(&server.url);
        tokio::time::sleep(Duration::from_millis(100 + random.below(LOAD_MS_MAX))).await;
        world.goes_beyond(before).await;
        let restarting = Arc::clone(&cluster);
        let restart = tokio::task::spawn_blocking(move || restarting.restart(round % 2 == 0));
        restart.await.unwrap();
        // Whoever still waits is answered now; nobody has to ask again.
        tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS_MAX))).await;
        world.stop.store(true, Ordering::Release);
        world.ended(work, round, &server.log).await;
        world.stop.store(false, Ordering::Release);
    }
    world.check(&server.url, ROUNDS_POSTGRES).await;
    let log = server.stop();
    assert!(!log.contains("panicked"), "{log}");
}

async fn kill_again_and_again(place: &Place, rounds: u64) {
    let seed = std::process::id() as u64;
    println!("seed {seed}");
    let mut random = Lcg(seed);
    let world = World::new(place).await;
    for round in 0..rounds {
        let server = place.start();
        let before = world.acknowledged();
        let work = world.load(&server.url);
        tokio::time::sleep(Duration::from_millis(random.below(LOAD_MS_MAX))).await;
        // Every other round is killed whenever it comes, even before the first answer.
        if round % 2 == 0 {
            world.goes_beyond(before).await;
        }
        let log = Arc::clone(&server.log);
        server.kill();
        world.ended(work, round, &log).await;
    }
    let server = place.start();
    world.check(&server.url, rounds).await;
    server.stop();
}

/// Two users in two rooms, and what everybody knows.
struct World {
    http: reqwest::Client,
    alice: String,
    bob: String,
    rooms: Vec<String>,
    sent: Vec<Mutex<Sent>>,
    seen: Mutex<Seen>,
    acknowledged: AtomicUsize,
    /// Everybody ends after what is under way.
    stop: AtomicBool,
}

impl World {
    async fn new(place: &Place) -> Arc<Self> {
        let server = place.start();
        let alice = Client::register(&server.url, "alice").await;
        let bob = Client::register(&server.url, "bob").await;
        let mut rooms = Vec::new();
        for _ in 0..ROOMS {
            let body = json!({ "preset": "public_chat" });
            let room = alice.post("/_matrix/client/v3/createRoom", body).await.ok();
            let room = room["room_id"].as_str().unwrap().to_owned();
            bob.post(&format!("/_matrix/client/v3/join/{room}"), json!({})).await.ok();
            rooms.push(room);
        }
        // Killed from the very beginning: what is acknowledged here counts, too.
        server.kill();
        Arc::new(Self {
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
            alice: alice.token.unwrap(),
            bob: bob.token.unwrap(),
            rooms,
            sent: (0..SENDERS).map(|_| Mutex::default()).collect(),
            seen: Mutex::default(),
            acknowledged: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Sets everybody to work.
    fn load(self: &Arc<Self>, url: &str) -> JoinSet<()> {
        let url: Arc<str> = url.into();
        let mut work = JoinSet::new();
        for sender in 0..SENDERS {
            work.spawn(Arc::clone(self).send_until_it_breaks(Arc::clone(&url), sender));
        }
        work.spawn(Arc::clone(self).read_until_it_breaks(url));
        work
    }

    /// Waits for everybody to notice.
    async fn ended(&self, mut work: JoinSet<()>, round: u64, log: &std::sync::Mutex<String>) {
        while let Some(ended) = work.join_next().await {
            if let Err(wrong) = ended {
                panic!("round {round}: {wrong}\n{}", log.lock().unwrap());
            }
        }
    }

    async fn send_until_it_breaks(self: Arc<Self>, url: Arc<str>, sender: usize) {
        let mut sent = self.sent[sender].lock().await;
        let room = &self.rooms[sender % ROOMS];
        while !self.stop.load(Ordering::Acquire) {
            let number = sent.next;
            let path = format!("rooms/{room}/send/m.room.message/s{sender}-{number}");
            let body = json!({ "msgtype": "m.text", "body": "x", "s": sender, "n": number });
            let request = self.http.put(format!("{url}/_matrix/client/v3/{path}"));
            let request = request.bearer_auth(&self.alice).json(&body);
            let Some(answer) = answered(request).await else { return };
            sent.acknowledged.push(answer["event_id"].as_str().unwrap().to_owned());
            sent.next += 1;
            self.acknowledged.fetch_add(1, Ordering::AcqRel);
        }
    }

    async fn read_until_it_breaks(self: Arc<Self>, url: Arc<str>) {
        let mut seen = self.seen.lock().await;
        while !self.stop.load(Ordering::Acquire) {
            let Some(answer) = self.sync(&url, seen.since.as_deref(), 300).await else { return };
            let next = answer["next_batch"].as_str().unwrap().to_owned();
            seen.events.extend(self.messages_of(&answer));
            let kept = (next.clone(), seen.events.len());
            if seen.tokens.len() < TOKENS_KEPT {
                seen.tokens.push(kept);
            } else {
                let place = seen.events.len() % TOKENS_KEPT;
                seen.tokens[place] = kept;
            }
            seen.since = Some(next);
        }
    }

    async fn sync(&self, url: &str, since: Option<&str>, timeout_ms: u64) -> Option<Value> {
        let filter = r#"{"room":{"timeline":{"limit":100000}}}"#;
        let timeout_ms = timeout_ms.to_string();
        let mut query = vec![("filter", filter), ("timeout", &timeout_ms)];
        query.extend(since.map(|since| ("since", since)));
        let request = self.http.get(format!("{url}/_matrix/client/v3/sync"));
        answered(request.bearer_auth(&self.bob).query(&query)).await
    }

    /// Our messages in an answer of sync, room by room, none cut off.
    fn messages_of(&self, answer: &Value) -> Vec<Message> {
        let mut messages = Vec::new();
        for room in &self.rooms {
            let timeline = &answer["rooms"]["join"][room.as_str()]["timeline"];
            assert_ne!(timeline["limited"], true, "a gap although there is no limit: {timeline}");
            let events = timeline["events"].as_array().into_iter().flatten();
            messages.extend(events.filter_map(|event| message(room, event)));
        }
        messages
    }

    /// Counts what was acknowledged so far. Never waits: those who send hold what they know.
    fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until more was acknowledged than `before`.
    async fn goes_beyond(&self, before: usize) {
        let begun = std::time::Instant::now();
        while self.acknowledged() <= before {
            assert!(begun.elapsed() < PROGRESS_MAX, "nothing is acknowledged any more");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Looks at everything once more: what the database holds, what sync gave, what tokens give.
    async fn check(&self, url: &str, rounds: u64) {
        // A database that just went down may not be up again yet.
        let begun = std::time::Instant::now();
        while self.sync(url, None, 0).await.is_none() {
            assert!(begun.elapsed() < PROGRESS_MAX, "nothing is answered any more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut held = Vec::new();
        for room in &self.rooms {
            held.extend(self.history(url, room).await);
        }
        let ids: HashSet<&str> = held.iter().map(|message| message.1.as_str()).collect();
        assert_eq!(ids.len(), held.len(), "an event stands twice in the history");
        in_order("the history", &held);
        let acknowledged = self.acknowledged();
        for (sender, sent) in self.sent.iter().enumerate() {
            let sent = sent.lock().await;
            for (number, id) in sent.acknowledged.iter().enumerate() {
                assert!(ids.contains(id.as_str()), "lost: {id}, sender {sender}, message {number}");
            }
        }
        // At most the one message each sender had under way is there without an answer.
        assert!(held.len() <= acknowledged + SENDERS, "{} of {acknowledged}", held.len());
        assert!(acknowledged as u64 >= rounds / 2, "only {acknowledged} messages: no load");
        let mut seen = self.seen.lock().await;
        let rest = self.sync(url, seen.since.as_deref(), 0).await.expect("the last token is good");
        seen.events.extend(self.messages_of(&rest));
        in_order("sync", &seen.events);
        let synced: HashSet<&str> = seen.events.iter().map(|message| message.1.as_str()).collect();
        assert_eq!(synced, ids, "sync and history hold the same events");
        for (token, count) in &seen.tokens {
            let answer = self.sync(url, Some(token), 0).await.expect("an old token is good");
            let later: HashSet<String> =
                self.messages_of(&answer).into_iter().map(|message| message.1).collect();
            let expected: HashSet<String> =
                seen.events[*count..].iter().map(|message| message.1.clone()).collect();
            assert_eq!(later, expected, "what an old token gives");
        }
        println!("{acknowledged} messages acknowledged, {rounds} kills");
    }

    /// Our messages of a room, oldest first, through /messages.
    async fn history(&self, url: &str, room: &str) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut from: Option<String> = None;
        loop {
            let mut query = vec![("dir", "f".to_owned()), ("limit", "500".to_owned())];
            query.extend(from.take().map(|from| ("from", from)));
            let request = self.http.get(format!("{url}/_matrix/client/v3/rooms/{room}/messages"));
            let answer = answered(request.bearer_auth(&self.bob).query(&query)).await;
            let answer = answer.expect("the history");
            let events = answer["chunk"].as_array().unwrap();
            messages.extend(events.iter().filter_map(|event| message(room, event)));
            match answer["end"].as_str() {
                Some(end) if !events.is_empty() => from = Some(end.to_owned()),
                _ => return messages,
            }
        }
    }
}

/// Takes one of our messages out of an event.
fn message(room: &str, event: &Value) -> Option<Message> {
    let (sender, number) = (event["content"]["s"].as_u64()?, event["content"]["n"].as_u64()?);
    Some((room.to_owned(), event["event_id"].as_str()?.to_owned(), sender, number))
}

/// Each sender's messages are numbered without gap, repetition or step back.
#[track_caller]
fn in_order(place: &str, messages: &[Message]) {
    let mut next: HashMap<u64, u64> = HashMap::new();
    for (room, id, sender, number) in messages {
        let expected = next.entry(*sender).or_default();
        assert_eq!(number, expected, "{place}: sender {sender} in {room}, event {id}");
        *expected += 1;
    }
}

/// Sends a request; `None` when the server died under it or had not all parts up.
///
/// Anything but 200 from a living server is a failure of the test; a gateway whose worker just died
/// answers with a 5xx, which counts as death.
async fn answered(request: reqwest::RequestBuilder) -> Option<Value> {
    let answer = request.send().await.ok()?;
    let status = answer.status();
    let bytes = answer.bytes().await.ok()?;
    if status.is_server_error() {
        return None;
    }
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&bytes));
    serde_json::from_slice(&bytes).ok()
}

/// Numbers from a seed; good enough to choose moments.
struct Lcg(u64);

impl Lcg {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
