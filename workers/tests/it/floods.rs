//! Memory under floods of what a user may write: each sends far more than its bound, and what the server
//! holds afterwards, and while it answers with all that is kept, stays near that bound. One test, so that
//! nothing else is measured.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use colonnade_testkit::Client;
use serde_json::{Map, Value, json};

use crate::process::Server;

const V3: &str = "/_matrix/client/v3";
const MIB: u64 = 1 << 20;
/// What the server may come to hold in each flood, in bytes: a few copies of the largest answer, what the
/// allocator keeps of it, and the pages of the database. On a busy machine twice what a quiet one shows; who reads
/// a backup of 60 MB whole holds 120 MB and more.
const GROWTH_MAX: u64 = 80 * MIB;
/// How often memory is looked at while a flood lasts.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Runs a flood and returns by how much the server's memory grew at most, in bytes.
async fn growth(server: &Server, flood: impl Future<Output = ()>) -> u64 {
    let pid = server.pid();
    let resident = move || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
    };
    let before = resident();
    let (most, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let looking = std::thread::spawn({
        let (most, over) = (Arc::clone(&most), Arc::clone(&over));
        move || {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        }
    });
    flood.await;
    over.store(true, Ordering::Relaxed);
    looking.join().unwrap();
    most.load(Ordering::Relaxed).saturating_sub(before)
}

/// 100 MB of account data, of which 2 MiB may stay, and first syncs with them.
async fn account_data(alice: Client) {
    let fat = "x".repeat(500_000);
    let mut kept = 0;
    for n in 0..200 {
        let path = format!("{V3}/user/{}/account_data/org.example.{n}", alice.user_id);
        kept += usize::from(alice.put(&path, json!({ "x": fat })).await.status == 200);
    }
    assert_eq!(kept, 4);
    for _ in 0..4 {
        alice.get(&format!("{V3}/sync")).await.ok();
    }
}

/// 40 MB for one device, of which 2 MiB may wait, and the syncs that fetch them.
async fn to_device(alice: Client, stranger: Client) {
    let fat = "x".repeat(60_000);
    for n in 0..700 {
        let path = format!("{V3}/sendToDevice/org.example.fat/t{n}");
        let to = json!({ alice.user_id.clone(): { "*": { "x": fat } } });
        stranger.put(&path, json!({ "messages": to })).await.ok();
    }
    let sync = alice.get(&format!("{V3}/sync")).await.ok();
    assert_eq!(sync["to_device"]["events"].as_array().unwrap().len(), 34);
}

/// A backup of 60 MB, uploaded in pieces and read whole, twice.
async fn backup(alice: Client) {
    let versions = format!("{V3}/room_keys/version");
    let request = json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": "abc", "signatures": {} },
    });
    alice.post(&versions, request).await.ok();
    let path = format!("{V3}/room_keys/keys?version=1");
    let key = json!({
        "first_message_index": 0, "forwarded_count": 0, "is_verified": true,
        "session_data": { "ciphertext": "c".repeat(15_000), "ephemeral": "e", "mac": "m" },
    });
    for part in 0..40 {
        let sessions = (0..100).map(|n| (format!("session{part}-{n}"), key.clone()));
        let sessions: Map<String, Value> = sessions.collect();
        let rooms = json!({ "rooms": { "!a:localhost": { "sessions": sessions } } });
        alice.put(&path, rooms).await.ok();
    }
    for _ in 0..2 {
        let whole = alice.raw(colonnade_testkit::Method::GET, &path, &[], Vec::new()).await;
        assert!(whole.status == 200 && whole.bytes.len() > 60_000_000);
    }
}

/// 100 invitations with 60 kB of topic each, and the first syncs of who is invited.
async fn invitations(alice: Client, stranger: Client) {
    let fat = "x".repeat(30_000);
    for _ in 0..100 {
        let request = json!({ "topic": fat, "invite": [alice.user_id] });
        stranger.post(&format!("{V3}/createRoom"), request).await.ok();
    }
    for _ in 0..4 {
        let sync = alice.get(&format!("{V3}/sync")).await.ok();
        assert_eq!(sync["rooms"]["invite"].as_object().unwrap().len(), 100);
        assert!(sync["rooms"]["invite"].to_string().len() < 300_000);
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_cost_no_more_memory_than_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        "rate_limits.enabled=false",
        "limits.account_data_bytes_max=2097152",
        "limits.to_device_sender_bytes_max=2097152",
        "limits.invite_states_bytes_max=262144",
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", *setting]).collect();
    let server = Server::start_with(folder.path(), &arguments);
    let alice = Client::register(&server.url, "alice").await;
    let bob = Client::register(&server.url, "bob").await;
    let carol = Client::register(&server.url, "carol").await;
    let stranger = Client::register(&server.url, "stranger").await;
    alice.get(&format!("{V3}/sync")).await.ok();
    let mut grown = vec![("account data", growth(&server, account_data(alice.clone())).await)];
    grown.push(("to device", growth(&server, to_device(bob, stranger.clone())).await));
    grown.push(("backup", growth(&server, backup(carol.clone())).await));
    grown.push(("invitations", growth(&server, invitations(carol, stranger)).await));
    for (name, bytes) in &grown {
        println!("{name}: {} MiB", bytes / MIB);
    }
    for (name, bytes) in grown {
        assert!(bytes < GROWTH_MAX, "{name}: the server grew by {} MiB", bytes / MIB);
    }
    server.stop();
}
