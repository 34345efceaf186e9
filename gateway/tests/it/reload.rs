//! Replacing the table while requests run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use colonnade_gateway::{RunOptions, Running, Source};

use tokio::task::JoinHandle;

use crate::client::{Client, ask, get};
use crate::worker::{Act, Worker};

fn file(workers: &[SocketAddr], extra: &str) -> String {
    let workers: Vec<String> = workers.iter().map(|w| format!("\"{w}\"")).collect();
    format!(
        "listen: [{{ name: test, bind: \"127.0.0.1:0\" }}]\nadmin: \"127.0.0.1:0\"\n\
         pools:\n  rooms: {{ balance: {{ hash: room }}, workers: [{}] }}\n{extra}\
         routes:\n  - {{ match: \"^/rooms/(?<room>[^/]+)$\", pool: rooms }}\n\
         \x20 - {{ match: \"^/.*$\", pool: rooms, key: source_ip }}\n",
        workers.join(", ")
    )
}

fn start(path: &std::path::Path, watch: bool) -> Running {
    let mut options = RunOptions::new(Source::File(path.to_owned()));
    options.watch = watch;
    crate::client::start(options)
}

#[tokio::test]
async fn a_changed_file_comes_into_force_by_itself_and_a_bad_one_does_not() {
    let (a, b) = (Worker::named("a").await, Worker::named("b").await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    std::fs::write(&path, file(&[a.address], "")).unwrap();
    let gateway = start(&path, true);
    assert_eq!(get(gateway.addrs()[0], "/x").await.body, "a");
    let admin = gateway.admin_addr().unwrap();
    let table = async || -> serde_json::Value {
        serde_json::from_str(&get(admin, "/table").await.body).unwrap()
    };
    std::fs::write(&path, "routes: [").unwrap();
    let refused = async {
        while table().await["last_reload"]["refused"].is_null() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(get(gateway.addrs()[0], "/x").await.body, "a");
    // Replaced by rename, as editors and config maps do.
    let fresh = folder.path().join("fresh.yaml");
    std::fs::write(&fresh, file(&[b.address], "")).unwrap();
    std::fs::rename(&fresh, &path).unwrap();
    let accepted = async {
        while table().await["version"] != 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), accepted).await.unwrap();
    assert_eq!(get(gateway.addrs()[0], "/x").await.body, "b");
}

#[tokio::test]
async fn the_admin_call_reloads_and_says_what_changed_or_is_wrong() {
    let (a, b) = (Worker::named("a").await, Worker::named("b").await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    std::fs::write(&path, file(&[a.address], "")).unwrap();
    let gateway = start(&path, false);
    let admin = gateway.admin_addr().unwrap();
    let reload = "POST /reload HTTP/1.1\r\nhost: localhost\r\n\r\n";
    std::fs::write(&path, file(&[a.address, b.address], "")).unwrap();
    let answer = ask(admin, reload).await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.contains("pool changed: rooms"), "{}", answer.body);
    std::fs::write(&path, file(&[a.address], "").replace("balance", "balanse")).unwrap();
    let answer = ask(admin, reload).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body.contains("routes.yaml:4:"), "{}", answer.body);
    assert!(answer.body.contains("did you mean `balance`?"), "{}", answer.body);
}

#[tokio::test]
async fn a_request_ends_under_the_table_it_began_with() {
    let slow = Worker::start(|_| Act::Wait(Duration::from_millis(500), "old".into())).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    std::fs::write(&path, file(&[slow.address], "")).unwrap();
    let gateway = start(&path, false);
    let address = gateway.addrs()[0];
    let begun = tokio::spawn(async move { get(address, "/x").await });
    while slow.count() < 1 {
        tokio::task::yield_now().await;
    }
    let new = Worker::named("new").await;
    std::fs::write(&path, file(&[new.address], "")).unwrap();
    gateway.reload().unwrap();
    assert_eq!(get(address, "/x").await.body, "new");
    assert_eq!(begun.await.unwrap().body, "old");
}

/// Two hundred reloads, good and bad, adding and removing a pool and a worker, while clients ask on
/// kept and fresh connections: not one request fails, and no key of the unchanged pool moves. A
/// request at least is answered between two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_load_fail_nothing() {
    let workers = [Worker::named("a").await, Worker::named("b").await, Worker::named("c").await];
    let addresses: Vec<SocketAddr> = workers.iter().map(|worker| worker.address).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.yaml");
    std::fs::write(&path, file(&addresses, "")).unwrap();
    let gateway = start(&path, false);
    let address = gateway.addrs()[0];
    let mut owners = Vec::new();
    for room in 0..40 {
        owners.push(get(address, &format!("/rooms/{room}")).await.body);
    }
    let owners = Arc::new(owners);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for n in 0..4 {
        let (owners, stop, asked) = (Arc::clone(&owners), Arc::clone(&stop), Arc::clone(&asked));
        clients.push(tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            let mut room = n;
            while !stop.load(Ordering::Relaxed) {
                room = (room + 7) % owners.len();
                let answer = match room % 5 {
                    0 => get(address, &format!("/rooms/{room}")).await,
                    _ => client.get(&format!("/rooms/{room}")).await.expect("connection cut"),
                };
                assert_eq!((answer.status, &answer.body), (200, &owners[room]));
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let mut refused = 0;
    for round in 0..200 {
        let extra = match round % 4 {
            0 => String::new(),
            1 => format!("  other: {{ balance: single, workers: [\"{}\"] }}\n", addresses[0]),
            2 => format!("  other: {{ balance: single, workers: [\"{}\"] }}\n", addresses[1]),
            _ => "  other: { balance: singel }\n".to_owned(),
        };
        std::fs::write(&path, file(&addresses, &extra)).unwrap();
        refused += usize::from(gateway.reload().is_err());
        let before = asked.load(Ordering::Relaxed);
        while asked.load(Ordering::Relaxed) == before
            && !clients.iter().any(JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(refused, 50);
}
