//! Workers that say themselves who they are and what they own, over real HTTP: the gateway follows
//! their map (docs/decisions/0013-slot-map.md).

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use colonnade_gateway::Running;
use tokio::sync::watch;

use crate::client::{ask, gateway, get};
use crate::worker::{Act, Seen, Worker};

/// A worker of the map: its incarnation, where it is, and `live` or `draining`.
pub(crate) type Listed = (u64, SocketAddr, &'static str);

pub(crate) fn map(epoch: u64, workers: &[Listed], owners: &[(u32, u32, u64)]) -> String {
    let workers: Vec<_> = workers
        .iter()
        .map(|(incarnation, address, state)| {
            serde_json::json!({
                "incarnation": incarnation, "name": format!("w{incarnation}"), "pool": "rooms",
                "address": address.to_string(), "state": state,
            })
        })
        .collect();
    serde_json::json!({
        "epoch": epoch, "slots": 1024, "hash": "xxh3", "workers": workers,
        "owners": { "rooms": owners },
    })
    .to_string()
}

/// Workers that agree on one map and otherwise say their names.
pub(crate) struct Cluster {
    pub(crate) map: watch::Sender<String>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self { map: watch::channel(map(1, &[], &[])).0 }
    }

    pub(crate) async fn worker(&self, name: &'static str) -> Worker {
        self.worker_that(move |_| Act::Say(name.to_owned())).await
    }

    pub(crate) async fn worker_that(
        &self,
        act: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Worker {
        let map = self.map.subscribe();
        Worker::start(move |seen| match seen.target.starts_with("/_colonnade/slots") {
            true => Act::Slots(map.clone()),
            false => act(seen),
        })
        .await
    }
}

pub(crate) fn discovering(seeds: &[SocketAddr], rest: &str) -> Running {
    let seeds: Vec<String> = seeds.iter().map(|seed| format!("\"{seed}\"")).collect();
    gateway(&format!(
        "{rest}pools: {{ rooms: {{ balance: {{ hash: room }}, discover: true, slow_start: 0s, \
         workers: [{}] }} }}\n\
         routes: [{{ match: \"^/rooms/(?<room>[^/]+)$\", pool: rooms }}]\n",
        seeds.join(", ")
    ))
}

async fn pools(gateway: &Running) -> serde_json::Value {
    let admin = gateway.admin_addr().unwrap();
    serde_json::from_str(&get(admin, "/pools").await.body).unwrap()
}

pub(crate) async fn until_epoch(gateway: &Running, epoch: u64) {
    let reached = async {
        while pools(gateway).await["slot_map_epoch"] != epoch {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), reached).await.is_ok(), "epoch {epoch}");
}

/// Who serves each of a hundred rooms.
async fn who_serves(gateway: &Running) -> Vec<String> {
    let mut who = Vec::new();
    for room in 0..100 {
        let answer = get(gateway.addrs()[0], &format!("/rooms/%21{room}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        who.push(answer.body);
    }
    who
}

fn slot(room: usize) -> u64 {
    xxhash_rust::xxh3::xxh3_64(format!("!{room}").as_bytes()) % 1024
}

#[tokio::test]
async fn keys_go_to_the_owner_of_their_slot_and_move_with_the_map() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.worker("a").await, cluster.worker("b").await);
    let both = [(3, a.address, "live"), (5, b.address, "live")];
    cluster.map.send_replace(map(7, &both, &[(0, 512, 3), (512, 1024, 5)]));
    let gateway = discovering(&[a.address], "");
    until_epoch(&gateway, 7).await;
    let expected = |first: &str, second: &str| -> Vec<String> {
        (0..100).map(|n| if slot(n) < 512 { first } else { second }.to_owned()).collect()
    };
    assert_eq!(who_serves(&gateway).await, expected("a", "b"));
    // The other way round, and the gateway is told while it waits.
    cluster.map.send_replace(map(8, &both, &[(0, 512, 5), (512, 1024, 3)]));
    until_epoch(&gateway, 8).await;
    assert_eq!(who_serves(&gateway).await, expected("b", "a"));
    let explained = get(gateway.admin_addr().unwrap(), "/explain?target=%2Frooms%2F%25210").await;
    let slot = format!("slot {} belongs to this worker (slot map of epoch 8)", slot(0));
    assert!(explained.body.contains(&slot), "{}", explained.body);
}

#[tokio::test]
async fn a_draining_worker_keeps_its_slots_and_gets_nothing_else() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.worker("a").await, cluster.worker("b").await);
    let workers = [(3, a.address, "draining"), (5, b.address, "live")];
    // Most slots have no owner yet: those that stay take them.
    cluster.map.send_replace(map(2, &workers, &[(0, 100, 3)]));
    let gateway = discovering(&[b.address], "");
    until_epoch(&gateway, 2).await;
    let expected: Vec<&str> = (0..100).map(|n| if slot(n) < 100 { "a" } else { "b" }).collect();
    assert!(expected.contains(&"a"));
    assert_eq!(who_serves(&gateway).await, expected);
}

#[tokio::test]
async fn a_worker_that_appears_serves_and_one_that_is_gone_does_not() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.worker("a").await, cluster.worker("b").await);
    cluster.map.send_replace(map(2, &[(3, a.address, "live")], &[]));
    let gateway = discovering(&[a.address], "");
    until_epoch(&gateway, 2).await;
    assert_eq!(who_serves(&gateway).await, vec!["a"; 100]);
    let both = [(3, a.address, "live"), (5, b.address, "live")];
    cluster.map.send_replace(map(3, &both, &[]));
    until_epoch(&gateway, 3).await;
    let who = who_serves(&gateway).await;
    assert!(who.iter().any(|w| w == "a") && who.iter().any(|w| w == "b"), "{who:?}");
    // It was the one that was asked, too: the other one tells what happened.
    drop(a);
    cluster.map.send_replace(map(4, &[(5, b.address, "live")], &[]));
    until_epoch(&gateway, 4).await;
    assert_eq!(who_serves(&gateway).await, vec!["b"; 100]);
}

#[tokio::test]
async fn who_does_not_own_it_names_the_owner_and_the_map_is_fetched() {
    let cluster = Cluster::start();
    let owner = cluster.worker("owner").await;
    let header = format!("x-colonnade-owner: {}\r\nx-colonnade-epoch: 9", owner.address);
    let said = format!("HTTP/1.1 421 no\r\n{header}\r\ncontent-length: 0\r\n\r\n");
    let other = cluster.worker_that(move |_| Act::Raw(said.clone().into_bytes())).await;
    cluster.map.send_replace(map(8, &[(3, other.address, "live")], &[(0, 1024, 3)]));
    // The worker we follow has not heard of epoch 9 yet, and does not while this test runs.
    let old = map(8, &[(3, other.address, "live")], &[(0, 1024, 3)]);
    let (_stays, deaf) = watch::channel(old);
    let deaf = Worker::start(move |_| Act::Slots(deaf.clone())).await;
    let gateway = discovering(&[other.address, deaf.address], "");
    until_epoch(&gateway, 8).await;
    let after = [(3, other.address, "live"), (4, owner.address, "live")];
    cluster.map.send_replace(map(9, &after, &[(0, 1024, 4)]));
    // Named by a worker although the map does not list it: asked once, with the body.
    let put = "PUT /rooms/!a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
    let answer = ask(gateway.addrs()[0], put).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "owner"));
    assert_eq!(owner.seen.lock().unwrap().iter().filter(|s| s.body == b"body").count(), 1);
    until_epoch(&gateway, 9).await;
    let asked = other.seen.lock().unwrap().iter().filter(|s| s.target == "/rooms/!a").count();
    assert!(asked <= 1);
}

#[tokio::test]
async fn an_owner_that_cannot_be_reached_is_stood_in_for() {
    let cluster = Cluster::start();
    let (a, gone) = (cluster.worker("a").await, Worker::named("gone").await.address);
    let both = [(3, a.address, "live"), (5, gone, "live")];
    cluster.map.send_replace(map(2, &both, &[(0, 1024, 5)]));
    let gateway = discovering(&[a.address], "");
    until_epoch(&gateway, 2).await;
    assert_eq!(who_serves(&gateway).await, vec!["a"; 100]);
}

/// A paused worker keeps its connections and says nothing; others take over what it owned.
#[tokio::test]
async fn requests_at_a_worker_that_the_map_gives_up_are_sent_to_another() {
    let cluster = Cluster::start();
    let (paused, stays) =
        (cluster.worker_that(|_| Act::Silence).await, cluster.worker("stays").await);
    let both = [(3, paused.address, "live"), (5, stays.address, "live")];
    cluster.map.send_replace(map(2, &both, &[(0, 1024, 3)]));
    let gateway = discovering(&[stays.address], "");
    until_epoch(&gateway, 2).await;
    let front = gateway.addrs()[0];
    let request = |method: &str| {
        let text =
            format!("{method} /rooms/!a HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody");
        tokio::spawn(async move { ask(front, &text).await })
    };
    let (put, post) = (request("PUT"), request("POST"));
    let arrived = async {
        let asked = |seen: &&Seen| seen.target == "/rooms/!a";
        while paused.seen.lock().unwrap().iter().filter(asked).count() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrived).await.unwrap();
    // In order: whoever leaves answers what it has.
    let leaving = [(3, paused.address, "draining"), (5, stays.address, "live")];
    cluster.map.send_replace(map(3, &leaving, &[(0, 1024, 5)]));
    until_epoch(&gateway, 3).await;
    assert!(!put.is_finished() && !post.is_finished());
    // Dead: what may be done twice is done by another, and nothing else is.
    cluster.map.send_replace(map(4, &both, &[(0, 1024, 3)]));
    until_epoch(&gateway, 4).await;
    cluster.map.send_replace(map(5, &[(5, stays.address, "live")], &[(0, 1024, 5)]));
    let put = put.await.unwrap();
    assert_eq!((put.status, put.body.as_str()), (200, "stays"));
    assert_eq!(post.await.unwrap().status, 502);
}

#[tokio::test]
async fn requests_are_held_until_the_map_brings_the_first_worker() {
    let cluster = Cluster::start();
    let a = cluster.worker("a").await;
    let seed = Worker::start({
        let map = cluster.map.subscribe();
        move |_| Act::Slots(map.clone())
    })
    .await;
    let gateway = discovering(&[seed.address], "limits: { hold: 30s }\n");
    until_epoch(&gateway, 1).await;
    let front = gateway.addrs()[0];
    let held = tokio::spawn(async move { get(front, "/rooms/!a").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!held.is_finished());
    cluster.map.send_replace(map(2, &[(3, a.address, "live")], &[]));
    assert_eq!(held.await.unwrap().body, "a");
}

#[tokio::test]
async fn the_last_map_is_kept_for_a_start_while_nobody_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("slots.json");
    let kept = |path: &Path| format!("slot_map_file: \"{}\"\n", path.display());
    let cluster = Cluster::start();
    let seed = cluster.worker("seed").await;
    let seed_address = seed.address;
    // It serves, and knows nothing of maps.
    let a = Worker::start(|seen| match seen.target.starts_with("/rooms") {
        true => Act::Say("a".into()),
        false => Act::Hang,
    })
    .await;
    cluster.map.send_replace(map(6, &[(3, a.address, "live")], &[(0, 1024, 3)]));
    let first = discovering(&[seed_address], &kept(&file));
    until_epoch(&first, 6).await;
    drop(first);
    drop((seed, cluster));
    let second = discovering(&[seed_address], &kept(&file));
    assert_eq!(pools(&second).await["slot_map_epoch"], 6);
    assert_eq!(who_serves(&second).await, vec!["a"; 100]);
    // A file that is no map is no reason not to start.
    std::fs::write(&file, "{").unwrap();
    let third = discovering(&[seed_address], &kept(&file));
    assert!(pools(&third).await["slot_map_epoch"].is_null());
}

/// A database that was restored counts from a smaller epoch, and its workers are other ones.
#[tokio::test]
async fn an_older_epoch_counts_when_the_worker_asked_before_is_gone() {
    let (before, after) = (Cluster::start(), Cluster::start());
    let (old, new) = (before.worker("old").await, after.worker("new").await);
    before.map.send_replace(map(90, &[(3, old.address, "live")], &[]));
    after.map.send_replace(map(4, &[(1, new.address, "live")], &[]));
    let gateway = discovering(&[old.address, new.address], "");
    let settled = async {
        while pools(&gateway).await["slot_map_epoch"].is_null() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled).await.unwrap();
    let first = pools(&gateway).await["slot_map_epoch"].as_u64().unwrap();
    let (gone, stays) = if first == 90 { (old, 4) } else { (new, 90) };
    drop(gone);
    until_epoch(&gateway, stays).await;
}

/// A map that is wrong, a worker that never ends its answer, one that closes: nothing changes, and
/// the next one is asked.
#[tokio::test]
async fn workers_that_answer_nonsense_are_passed_over() {
    let cluster = Cluster::start();
    let good = cluster.worker("good").await;
    cluster.map.send_replace(map(2, &[(3, good.address, "live")], &[]));
    let wrong = Arc::new(map(99, &[], &[(0, 2000, 1)]));
    let wrong = Worker::start(move |_| Act::Say(wrong.as_ref().clone())).await;
    let closes = Worker::start(|_| Act::Hang).await;
    let garbage = Worker::start(|_| Act::Raw(b"\x00\xff\r\n\r\n".to_vec())).await;
    let seeds = [wrong.address, closes.address, garbage.address, good.address];
    let gateway = discovering(&seeds, "");
    until_epoch(&gateway, 2).await;
    assert_eq!(who_serves(&gateway).await, vec!["good"; 100]);
}

#[tokio::test]
async fn clients_cannot_ask_for_the_map_by_the_bundled_routes() {
    let routes = colonnade_gateway::config::Config::bundled().unwrap();
    let explained =
        colonnade_gateway::explain(&routes, "GET", "/_colonnade/slots?after=1", None, None);
    assert!(explained.unwrap().why.iter().any(|why| why.contains("denies")));
}
