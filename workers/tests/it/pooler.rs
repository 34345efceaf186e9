//! Workers behind a PgBouncer in transaction mode, but for the one session by which each shows that it
//! lives. With one that is too old (before 1.21) the start says so. Left out without PgBouncer.

use colonnade_testkit::Client;
use colonnade_testkit_postgres::{
    Cluster,
    pooler::{Pooler, Program},
};
use serde_json::json;

use crate::process::{LONG, Server, run};

#[tokio::test]
async fn workers_behind_a_pooler_in_transaction_mode() {
    let Some(program) = Program::find() else {
        println!("SKIPPED: PgBouncer is not installed: apt-get install pgbouncer");
        return;
    };
    let cluster = Cluster::start();
    let direct = cluster.database();
    let folder = tempfile::tempdir().unwrap();
    // One that mixes up prepared statements is refused with the mend, old or not set up.
    let pooler = Pooler::start(&program, &cluster, false);
    let url = format!("database.url={}", pooler.before(&direct));
    let direct = format!("database.direct_url={direct}");
    let arguments = ["--set", &url, "--set", &direct, "--set", "registration.open=true"];
    if !program.prepares() {
        let worker = ["worker", "--pool", "all", "--bind", "127.0.0.1:0"];
        let said = run(folder.path(), &[&worker[..], &arguments[..]].concat(), "");
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.err.contains("use PgBouncer 1.21 or newer"), "{said:?}");
        println!("SKIPPED: {program} is too old for more than to be told so");
        return;
    }
    drop(pooler);
    let _pooler = Pooler::start(&program, &cluster, true);
    let start = || Server::worker(folder.path(), "all", &arguments);
    let workers = [start(), start(), start()];
    let alice = Client::register(&workers[0].url, "alice").await;
    let mut rooms = Vec::new();
    for _ in 0..4 {
        let room = alice.post("/_matrix/client/v3/createRoom", json!({})).await.ok();
        rooms.push(room["room_id"].as_str().unwrap().to_owned());
    }
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..60 {
        let alice = alice.at(&workers[n % 3].url);
        let room = &rooms[n % 4];
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{n}");
        sending.spawn(async move {
            let content = json!({ "msgtype": "m.text", "body": n.to_string() });
            alice.put(&path, content).await.ok()["event_id"].as_str().unwrap().to_owned()
        });
    }
    let sent = tokio::time::timeout(LONG, sending.join_all()).await.expect("all are stored");
    for worker in &workers {
        let alice = alice.at(&worker.url);
        let mut there = Vec::new();
        for room in &rooms {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
            let page = alice.get(&path).await.ok();
            let events = page["chunk"].as_array().unwrap().iter();
            let messages = events.filter(|event| event["type"] == "m.room.message");
            there.extend(messages.map(|event| event["event_id"].as_str().unwrap().to_owned()));
        }
        there.sort();
        let mut sent = sent.clone();
        sent.sort();
        assert_eq!(there, sent);
    }
    for worker in workers {
        worker.stop();
    }
}
