//! A worker that is told to stop while PostgreSQL is away, or answers nothing, leaves soon: writes that wait are not
//! waited for, what was acknowledged is there afterwards, and what is not there was not acknowledged.

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::process::Server;

/// Writes that are under way when the database goes.
const UNDER_WAY: usize = 3;

/// All processes of a server, which stand still until this is dropped.
struct Frozen(Vec<i32>);

impl Frozen {
    fn freeze(cluster: &Cluster) -> Self {
        let pids = cluster.sql("postgres", "SELECT pid FROM pg_stat_activity");
        let file = std::fs::read_to_string(cluster.folder().join("data/postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap().to_owned();
        let pids = [first].into_iter().chain(pids.lines().map(str::to_owned));
        let frozen = Self(pids.map(|pid| pid.trim().parse().unwrap()).collect());
        frozen.signal(Signal::SIGSTOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for pid in &self.0 {
            // The one that listed them has ended.
            let _gone_already = kill(Pid::from_raw(*pid), signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
    }
}

/// What a server is told to stop in the middle of.
struct Place {
    cluster: Cluster,
    database: String,
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let cluster = Cluster::start();
        let database = format!("database={}", cluster.database());
        Self { cluster, database, folder: tempfile::tempdir().unwrap() }
    }

    fn worker(&self) -> Server {
        let open = "registration.open=true";
        Server::worker(self.folder.path(), "all", &["--set", &self.database, "--set", open])
    }

    fn alone(&self) -> Server {
        Server::start_with(self.folder.path(), &["--set", &self.database])
    }
}

/// Stops a server whose database `goes`, starts it again once that is back, and compares.
async fn stops<T>(
    place: &Place,
    start: impl Fn(&Place) -> Server,
    goes: impl Fn(&Cluster) -> T,
    comes_back: impl Fn(&Cluster, T),
) {
    let mut server = start(place);
    let alice = Client::register(&server.url, "alice").await;
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let path = |n: usize| format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{n}");
    let message = json!({ "msgtype": "m.text", "body": "x" });
    let mut acknowledged = Vec::new();
    for n in 0..5 {
        let sent = alice.put(&path(n), message.clone()).await.ok();
        acknowledged.push(sent["event_id"].as_str().unwrap().to_owned());
    }
    let away = goes(&place.cluster);
    let mut under_way = Vec::new();
    for n in 0..UNDER_WAY {
        let request = reqwest::Client::new().put(format!("{}{}", server.url, path(100 + n)));
        let request = request.bearer_auth(alice.token.as_ref().unwrap()).json(&message);
        under_way.push(tokio::spawn(request.send()));
    }
    tokio::task::yield_now().await;
    server.signal(Signal::SIGTERM);
    // Waits for a minute at most.
    let code = tokio::task::block_in_place(|| server.wait());
    assert_eq!(code, Some(0), "{}", server.log.lock().unwrap());
    for answer in under_way {
        // It may have been cut off instead.
        let Ok(answer) = answer.await.unwrap() else { continue };
        assert!(!answer.status().is_success(), "acknowledged by nobody");
    }
    comes_back(&place.cluster, away);
    let server = start(place);
    let page = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=100");
    let page = alice.at(&server.url).get(&page).await.ok();
    let events = page["chunk"].as_array().unwrap().iter();
    let messages = events.filter(|event| event["type"] == "m.room.message");
    let there: Vec<&str> = messages.map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!(there[..acknowledged.len()], acknowledged, "{there:?}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_leaves_a_database_that_is_away() {
    let (goes, comes_back) = (Cluster::stop, |cluster: &Cluster, ()| cluster.restart(true));
    stops(&Place::new(), Place::worker, goes, comes_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_alone_leaves_a_database_that_is_away() {
    let (goes, comes_back) = (Cluster::stop, |cluster: &Cluster, ()| cluster.restart(true));
    stops(&Place::new(), Place::alone, goes, comes_back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_leaves_a_database_that_answers_nothing() {
    stops(&Place::new(), Place::worker, Frozen::freeze, |_, frozen| drop(frozen)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_alone_leaves_a_database_that_answers_nothing() {
    stops(&Place::new(), Place::alone, Frozen::freeze, |_, frozen| drop(frozen)).await;
}
