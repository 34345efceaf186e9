//! What floods of answers that nobody takes make a worker hold: no more than a share of the budget, and
//! nothing of it afterwards.

use std::{
    io::Write as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use colonnade_testkit::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::{PATIENCE, Server};

const V3: &str = "/_matrix/client/v3";
/// What one user's answers may make it hold, in MB: a quarter of 128 MiB, an answer of 8 MB that is being
/// made in a few copies, and what the database and the allocator keep.
const GROWTH_MB_MAX: u64 = 110;
/// What may stay when all is over: the caches of events and pages, and what the allocator keeps at hand.
const AFTER_MB_MAX: u64 = 60;
/// Accounts that take none of their first syncs; all they can have of them, 2 MiB each, fits into half of the
/// budget.
const MEMBERS: usize = 6;
/// Requests at a time that make what is asked for: they are committed together.
const TOGETHER: usize = 16;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long is looked: all that wait in line are answered or refused by then.
const LOOK: Duration = Duration::from_secs(12);

/// The memory of a process, in MB.
fn held_mb(server: &Server) -> u64 {
    server.resident_kb().unwrap() / 1_024
}

/// Asks over many connections and takes nothing of what is answered; returns the most that was held.
fn flood(
    server: &Server,
    clients: &[Client],
    path: &str,
    connections: usize,
) -> (u64, Vec<TcpStream>) {
    let address = server.url.trim_start_matches("http://");
    let mut untaken = Vec::new();
    for client in clients.iter().cycle().take(connections) {
        let token = client.token.as_deref().unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        untaken.push(stream);
    }
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < LOOK {
        most = most.max(held_mb(server));
        std::thread::sleep(LOOK_EVERY);
    }
    (most, untaken)
}

/// Puts the same to many paths, some at a time: in what order is nobody's concern.
async fn put_all(client: &Client, paths: impl Iterator<Item = String>, body: &Value) {
    let mut under_way = JoinSet::new();
    for path in paths {
        if under_way.len() == TOGETHER {
            under_way.join_next().await.unwrap().unwrap();
        }
        let (client, body) = (client.clone(), body.clone());
        under_way.spawn(async move { drop(client.put(&path, body).await.ok()) });
    }
    while let Some(put) = under_way.join_next().await {
        put.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_answers_hold_a_bounded_memory_and_give_it_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = ["--set", "registration.open=true", "--set", "rate_limits.enabled=false"];
    let server = Server::worker(folder.path(), "all", &settings);
    let alice = [Client::register(&server.url, "alice").await];
    let owner = &alice[0];
    let bob = Client::register(&server.url, "bob").await;
    for n in 0..16 {
        let path = format!("{V3}/user/{}/account_data/org.example.{n}", owner.user_id);
        owner.put(&path, json!({ "x": "y".repeat(500_000) })).await.ok();
    }
    let made =
        owner.post(&format!("{V3}/createRoom"), json!({ "preset": "public_chat" })).await.ok();
    let room = made["room_id"].as_str().unwrap();
    let messages = (0..240).map(|n| format!("{V3}/rooms/{room}/send/m.room.message/t{n}"));
    put_all(owner, messages, &json!({ "body": "x".repeat(60_000) })).await;
    let states = (0..600).map(|n| format!("{V3}/rooms/{room}/state/org.example.large/{n}"));
    put_all(owner, states, &json!({ "x": "x".repeat(60_000) })).await;
    let mut members = Vec::new();
    for n in 0..MEMBERS {
        let member = Client::register(&server.url, &format!("member{n}")).await;
        member.post(&format!("{V3}/rooms/{room}/join"), json!({})).await.ok();
        members.push(member);
    }
    let filter = "%7B%22room%22%3A%7B%22state%22%3A%7B%22types%22%3A%5B%22none%22%5D%7D%7D%7D";
    let before = held_mb(&server);
    for (clients, path, connections) in [
        (&alice[..], format!("{V3}/sync?filter={filter}"), 120),
        (&alice[..], format!("{V3}/rooms/{room}/messages?dir=b&limit=1000"), 60),
        (&alice[..], format!("{V3}/rooms/{room}/state"), 60),
        // First syncs of 36 MB each.
        (&alice[..], format!("{V3}/sync"), 60),
        (&members[..], format!("{V3}/sync"), 4 * MEMBERS),
    ] {
        let (most, untaken) = flood(&server, clients, &path, connections);
        println!("{path}: {before} MB, then {most} MB");
        assert!(most < before + GROWTH_MB_MAX, "{path}: {before} MB, then {most} MB");
        // Others are served meanwhile.
        bob.get(&format!("{V3}/sync")).await.ok();
        drop(untaken);
    }
    let begun = Instant::now();
    loop {
        // What was freed is given back when something is done.
        bob.get(&format!("{V3}/account/whoami")).await.ok();
        let after = held_mb(&server);
        if after < before + AFTER_MB_MAX {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{before} MB before, {after} MB after");
    }
    server.stop();
}
