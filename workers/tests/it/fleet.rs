//! `colonnade up --workers`: one command, many processes; they are replaced, come back when killed, and
//! end with the command, however it ends.

use std::{path::Path, time::Duration};

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use colonnade_testkit_redis as redis;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::process::{LONG, Server, run};

/// How the workers stand, by what `colonnade status` reads.
pub(crate) fn standings(folder: &Path) -> Vec<Value> {
    status(folder)["workers"].as_array().cloned().unwrap_or_default()
}

/// Everything that `colonnade status` reads.
pub(crate) fn status(folder: &Path) -> Value {
    let text = std::fs::read(folder.join("data/up.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Waits until the workers stand as wanted.
pub(crate) async fn until(folder: &Path, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let wait = async {
        loop {
            let workers = standings(folder);
            if wanted(&workers) {
                return workers;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LONG, wait).await;
    waited.unwrap_or_else(|_| panic!("{:?}", standings(folder)))
}

pub(crate) fn pid(worker: &Value) -> Pid {
    Pid::from_raw(i32::try_from(worker["pid"].as_i64().unwrap()).unwrap())
}

pub(crate) fn all_run(workers: &[Value]) -> bool {
    !workers.is_empty() && workers.iter().all(|worker| worker["state"] == "running")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_come_back_are_replaced_and_end_together() {
    let folder = tempfile::Builder::new().prefix("c").tempdir_in("/tmp").unwrap();
    let (database, redis) = (Cluster::shared().database(), redis::Server::start());
    let url = redis.url();
    // `up` is said by the flags that only it has.
    let arguments = ["up", "--workers", "2", "--database", &database, "--redis", &url];
    let mut server = Server::start_with(
        folder.path(),
        // Before the command: clap would forget the other settings for one that comes after it.
        &[&["--set", "rate_limits.enabled=false"], &arguments[..]].concat(),
    );
    let alice = Client::register(&server.url, "alice").await;
    let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
    let room = room["room_id"].as_str().unwrap().to_owned();
    let says = async |text: &str| {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{text}");
        let message = json!({ "msgtype": "m.text", "body": text });
        let sent = async {
            while alice.put(&path, message.clone()).await.status != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, sent).await.expect("the message is taken");
    };
    says("first").await;
    let first = until(folder.path(), all_run).await;
    let said = run(folder.path(), &["status"], "");
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.out.contains("2 of 2 workers run"), "{said:?}");
    assert!(said.out.contains("\ngateway     running"), "{said:?}");

    // Killed: another process takes its place.
    kill(pid(&first[1]), Signal::SIGKILL).unwrap();
    let back = |workers: &[Value]| all_run(workers) && workers[1]["failures"] == 1;
    let second = until(folder.path(), back).await;
    assert_ne!(pid(&second[1]), pid(&first[1]));
    assert_eq!(pid(&second[0]), pid(&first[0]), "the other was left alone");
    says("second").await;

    // Replaced one by one.
    server.signal(Signal::SIGHUP);
    let gateway = status(folder.path())["gateway"].clone();
    let replaced = |workers: &[Value]| {
        all_run(workers)
            && workers.iter().zip(&second).all(|(new, old)| new["pid"] != old["pid"])
            && status(folder.path())["gateway"]["pid"] != gateway["pid"]
    };
    let third = until(folder.path(), replaced).await;
    says("third").await;
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=100");
    let read = alice.get(&path).await.ok();
    let bodies = read["chunk"].as_array().unwrap().iter();
    let bodies: Vec<&str> = bodies.filter_map(|event| event["content"]["body"].as_str()).collect();
    assert_eq!(bodies, ["first", "second", "third"]);

    // Killed: another gateway takes the place of the one, at another port since we said none.
    let gateway = status(folder.path())["gateway"].clone();
    kill(pid(&gateway), Signal::SIGKILL).unwrap();
    let back = |_: &[Value]| {
        let now = status(folder.path())["gateway"].clone();
        now["state"] == "running" && now["failures"] == 1
    };
    until(folder.path(), back).await;
    let listen = status(folder.path())["listen"][0].as_str().unwrap().to_owned();
    alice.at(&listen).get(&path).await.ok();

    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait(), Some(0), "{}", server.log.lock().unwrap());
    assert!(third.iter().all(|worker| kill(pid(worker), None).is_err()), "nobody is left");
    let said = run(folder.path(), &["status"], "");
    assert_eq!(said.code, Some(1), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_end_when_their_supervisor_is_killed() {
    let folder = tempfile::Builder::new().prefix("c").tempdir_in("/tmp").unwrap();
    let database = Cluster::shared().database();
    let server =
        Server::start_with(folder.path(), &["up", "--workers", "2", "--database", &database]);
    let mut all = until(folder.path(), all_run).await;
    all.push(status(folder.path())["gateway"].clone());
    server.kill();
    let gone = async {
        while all.iter().any(|process| kill(pid(process), None).is_ok()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("they end");
}

#[test]
fn many_workers_need_postgresql() {
    let folder = tempfile::tempdir().unwrap();
    let said = run(folder.path(), &["up", "--workers", "2"], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("needs PostgreSQL"), "{said:?}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn wrong_routes_are_reported_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("routes.yaml"), "pools: {}\nroute: []\n").unwrap();
    let nowhere = "postgres://colonnade@127.0.0.1:1/x";
    let said = run(folder.path(), &["up", "--workers", "2", "--database", nowhere], "");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(said.err.contains("routes.yaml:2:"), "{said:?}");
    assert!(!folder.path().join("data").exists());
}
