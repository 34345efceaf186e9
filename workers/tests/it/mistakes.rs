//! A worker that joins by mistake, or is told of a wrong Redis, is refused with the mend; two
//! deployments on one Redis leave each other alone.

use std::{path::Path, time::Duration};

use colonnade_testkit::Client;
use colonnade_testkit_postgres::Cluster;
use colonnade_testkit_redis as redis;
use serde_json::{Value, json};

use crate::process::{self, Finished, LONG, Server};

const PASSWORD: &str = "not-for-the-log";

/// Runs a worker that is refused, and tells nobody a password.
#[track_caller]
fn refused(folder: &Path, settings: &[String], expected: &[&str]) -> Finished {
    process::refused(folder, settings, expected).hides(PASSWORD)
}

fn worker(folder: &Path, settings: &[String]) -> Server {
    let mut arguments = vec!["--set", "registration.open=true"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    Server::worker(folder, "all", &arguments)
}

#[test]
fn a_worker_of_another_server() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("database={}", Cluster::shared().database());
    let first = worker(folder.path(), std::slice::from_ref(&database));
    let key = folder.path().join("data/signing.key");
    let other = [database.clone(), "server_name=b.example".to_owned()];
    refused(folder.path(), &other, &["belongs to the server localhost", "set it back"]);
    // With a copy of the data folder that has another key, and with none at all.
    let elsewhere = tempfile::tempdir().unwrap();
    let settings = std::slice::from_ref(&database);
    refused(elsewhere.path(), settings, &["there is no such file", "put the file back"]);
    let copy = elsewhere.path().join("data/signing.key");
    assert!(!copy.exists(), "a key was made");
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    let seed = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    std::fs::write(&copy, format!("ed25519 a_1 {seed}\n")).unwrap();
    refused(elsewhere.path(), settings, &["it holds ed25519:a_1", "put the file back"]);
    // With the right one it may join.
    std::fs::copy(key, copy).unwrap();
    worker(elsewhere.path(), settings).stop();
    first.stop();
}

#[test]
fn a_redis_that_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("database={}", Cluster::shared().database());
    let server = redis::Server::start_with(Some("right"));
    let refuses = |url: String, expected: &[&str]| {
        refused(folder.path(), &[database.clone(), format!("redis.url={url}")], expected)
    };
    let port = server.port();
    let mend = ["user or password in redis.url is missing or wrong"];
    refuses(format!("redis://127.0.0.1:{port}/0"), &mend);
    refuses(format!("redis://:{PASSWORD}@127.0.0.1:{port}/0"), &mend);
    // Whose TLS nobody speaks is not taken for one that is away.
    let mend = ["cannot use the Redis", "it speaks no TLS: write redis:// instead of rediss://"];
    refuses(format!("rediss://:{PASSWORD}@127.0.0.1:{port}/0"), &mend);
    let mend = ["the number at the end of redis.url has to be a database of that Redis"];
    refuses(format!("redis://:right@127.0.0.1:{port}/99"), &mend);
    worker(folder.path(), &[database.clone(), format!("redis.url={}", server.url())]).stop();
}

/// A password that was changed while a worker runs is said once, not at each attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_later() {
    const MEND: &str = "user or password in redis.url is missing or wrong";
    let folder = tempfile::tempdir().unwrap();
    let database = format!("database={}", Cluster::shared().database());
    let server = redis::Server::start_with(Some("right"));
    let debug = "logging.level=debug".to_owned();
    let settings = [database, format!("redis.url={}", server.url()), debug];
    let worker = worker(folder.path(), &settings);
    let until = async |what: &str, count: usize| {
        let wait = async {
            while worker.log.lock().unwrap().matches(what).count() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect(what);
    };
    // One message, for the next would be refused.
    const KILL: &str = "CLIENT KILL TYPE pubsub\r\nCLIENT KILL TYPE normal";
    server.command(&format!("CONFIG SET requirepass changed\r\n{KILL}"));
    until("Redis is still away", 4).await;
    let log = worker.stop();
    assert_eq!(log.matches(MEND).count(), 1, "{log}");
    assert!(!log.contains("right@") && !log.contains("changed"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_deployments_on_one_redis() {
    let server = redis::Server::start();
    let mut deployments = Vec::new();
    for _ in 0..2 {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("database={}", Cluster::shared().database());
        let settings = [database, format!("redis.url={}", server.url())];
        let two = [worker(folder.path(), &settings), worker(folder.path(), &settings)];
        deployments.push((two, folder));
    }
    // Each deployment has a channel, on which the two of it alone listen.
    let listeners = || {
        let channels = server.command("PUBSUB CHANNELS colonnade:*:streams");
        let names = channels.lines().filter(|line| line.starts_with("colonnade:"));
        let count = |name: &str| server.command(&format!("PUBSUB NUMSUB {}", name.trim()));
        let two = |count: String| count.lines().any(|line| line.trim() == ":2");
        names.map(|name| two(count(name))).collect::<Vec<bool>>()
    };
    let wait = async {
        while listeners() != [true, true] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("two channels with two listeners each");
    // And what one writes is in its own rooms, and nobody else's.
    let mut said = Vec::new();
    for (workers, _) in &deployments {
        let [one, two] = workers;
        let alice = Client::register(&one.url, "alice").await;
        let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
        let room = room["room_id"].as_str().unwrap();
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/1");
        alice.put(&path, json!({ "msgtype": "m.text", "body": "here" })).await.ok();
        let synced: Value = alice.at(&two.url).get("/_matrix/client/v3/sync").await.ok();
        let rooms: Vec<String> =
            synced["rooms"]["join"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(rooms, [room]);
        said.extend(rooms);
    }
    assert_ne!(said[0], said[1]);
    for (workers, _folder) in deployments {
        for worker in workers {
            worker.stop();
        }
    }
}
