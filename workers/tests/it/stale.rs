//! A gateway that is kept from hearing that rooms have moved: the worker it asks says who has them now, the
//! gateway asks there, and no client notices.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use colonnade_gateway::Running;
use colonnade_testkit::Client;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    cluster::{Deployment, message, room_of, send_path, until_owners},
    discovered::{address, asked, gateway_by, until_epoch},
    process::{LONG, Server},
    scaling::REST,
};

/// How a question for the map begins.
const QUESTION: &[u8] = b"GET /_colonnade/slots";
/// Rooms of which some have moved: more are made until one has.
const ROOMS_MIN: usize = 12;
/// Half of all rooms move, so far fewer do.
const ROOMS_MAX: usize = 200;

/// Stands before a worker, and can hold back the map, and only that.
struct Doorman {
    address: SocketAddr,
    worker: watch::Sender<Option<String>>,
    holds: watch::Sender<bool>,
    questions: Arc<AtomicUsize>,
}

impl Doorman {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (worker, holds) = (watch::Sender::new(None), watch::Sender::new(false));
        let questions = Arc::new(AtomicUsize::new(0));
        let doorman = Self {
            address,
            worker: worker.clone(),
            holds: holds.clone(),
            questions: Arc::clone(&questions),
        };
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let (worker, holds) = (worker.subscribe(), holds.subscribe());
                let questions = Arc::clone(&questions);
                tokio::spawn(async move { lead(caller, worker, holds, &questions).await });
            }
        });
        doorman
    }

    /// Starts the worker it stands before.
    fn worker(&self, deployment: &Deployment, pools: &str) -> Server {
        let worker = deployment.worker_with(pools, &["--reached-at", &self.address.to_string()]);
        self.worker.send_replace(Some(address(&worker)));
        worker
    }

    /// Holds back the map from now on; whoever waits for one is cut off.
    async fn hold(&self) {
        self.holds.send_replace(true);
        let none = async {
            while self.questions.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, none).await.expect("questions are cut off");
    }
}

/// Leads a caller to the worker, unless he asks for what is held back.
async fn lead(
    mut caller: TcpStream,
    mut worker: watch::Receiver<Option<String>>,
    mut holds: watch::Receiver<bool>,
    questions: &AtomicUsize,
) -> Option<()> {
    let mut begin = Vec::new();
    while begin.len() < QUESTION.len() && QUESTION.starts_with(&begin) {
        if caller.read_buf(&mut begin).await.ok()? == 0 {
            return None;
        }
    }
    let address = worker.wait_for(Option::is_some).await.ok()?.clone()?;
    let through = async {
        let mut worker = TcpStream::connect(address).await.ok()?;
        worker.write_all(&begin).await.ok()?;
        tokio::io::copy_bidirectional(&mut caller, &mut worker).await.ok()
    };
    if !begin.starts_with(QUESTION) {
        through.await?;
        return Some(());
    }
    questions.fetch_add(1, Ordering::AcqRel);
    let held = *holds.borrow();
    if !held {
        tokio::select! {
            _ = through => {}
            _ = holds.wait_for(|holds| *holds) => {}
        }
        questions.fetch_sub(1, Ordering::AcqRel);
        return Some(());
    }
    questions.fetch_sub(1, Ordering::AcqRel);
    // Not a word, as of a worker that is paused.
    holds.wait_for(|holds| !*holds).await.ok().map(drop)
}

/// The attempts of a gateway at workers that said who the owner is.
async fn misdirected(gateway: &Running) -> u64 {
    let admin = gateway.admin_addr().unwrap();
    let text = reqwest::get(format!("http://{admin}/metrics")).await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| line.contains("outcome=\"not_owner\""));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

async fn epoch(gateway: &Running) -> u64 {
    let pools = asked(gateway.admin_addr().unwrap(), "/pools".to_owned()).await;
    pools["slot_map_epoch"].as_u64().unwrap()
}

/// Sends a message to a worker itself, with the header that only gateways have.
async fn sent_to(worker: &Server, alice: &Client, room: &str, header: &str) -> reqwest::Response {
    let txn = header.split(' ').next_back().unwrap().get(..5).unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.put(format!("{}{}", worker.url, send_path(room, txn)));
    let request = request.bearer_auth(alice.token.as_deref().unwrap());
    request.header("x-colonnade-epoch", header).json(&message("direct")).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_route_is_repeated_at_the_owner() {
    let deployment = Deployment::new();
    let doors = [Doorman::start().await, Doorman::start().await];
    let rest = doors[0].worker(&deployment, &format!("{REST},sync"));
    let before = doors[1].worker(&deployment, "rooms");
    let settled = until_owners(&before, 1).await;
    let gateway = gateway_by(&doors[0].address.to_string());
    until_epoch(&gateway, settled["epoch"].as_u64().unwrap()).await;
    let alice = Client::register(&format!("http://{}", gateway.addrs()[0]), "alice").await;
    let bob = Client::register(&rest.url, "bob").await;

    // A worker comes and gets half of the rooms; the gateway does not hear of it.
    for door in &doors {
        door.hold().await;
    }
    let known = epoch(&gateway).await;
    let added = deployment.worker("rooms");
    until_owners(&added, 2).await;
    let settled = until_owners(&before, 2).await;
    let mut rooms = Vec::new();
    while rooms.len() < ROOMS_MIN || misdirected(&gateway).await == 0 {
        assert!(rooms.len() < ROOMS_MAX, "no room has moved");
        let room = room_of(&alice).await;
        alice.put(&send_path(&room, "one"), message("one")).await.ok();
        // Not to be done twice: only who has done nothing may send it on.
        let invite = format!("/_matrix/client/v3/rooms/{room}/invite");
        alice.post(&invite, json!({ "user_id": bob.user_id })).await.ok();
        rooms.push(room);
    }
    assert_eq!(epoch(&gateway).await, known, "the gateway has the old map");
    let count = misdirected(&gateway).await;
    let logged = || before.log.lock().unwrap().matches("status=421").count() as u64;
    let wait = async {
        while logged() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("it was the old owner that said so");
    assert_eq!(logged(), count);

    // It hears, and asks the owner at once.
    for door in &doors {
        door.holds.send_replace(false);
    }
    until_epoch(&gateway, settled["epoch"].as_u64().unwrap()).await;
    let mut moved = Vec::new();
    for room in &rooms {
        alice.put(&send_path(room, "two"), message("two")).await.ok();
        let target = colonnade_gateway::explain_target("PUT", &send_path(room, "x"), None, None);
        let explained = asked(gateway.admin_addr().unwrap(), target).await;
        if explained["worker"] == *address(&added) {
            moved.push(room);
        }
        let page = format!("/_matrix/client/v3/rooms/{room}/messages?dir=f&limit=100");
        let page = alice.get(&page).await.ok();
        let events = page["chunk"].as_array().unwrap().iter();
        let bodies: Vec<_> = events.filter_map(|event| event["content"]["body"].as_str()).collect();
        assert_eq!(bodies, ["one", "two"]);
    }
    assert_eq!(misdirected(&gateway).await, count);
    believed_is_who_has_the_map(&before, &added, &alice, moved[0]).await;
    gateway.shutdown(Duration::from_secs(5)).await;
}

/// Who has no map is served where he asks, whatever he says of one.
async fn believed_is_who_has_the_map(before: &Server, owner: &Server, alice: &Client, room: &str) {
    let map = crate::cluster::map(before, "").await;
    let (proof, epoch) = (map["proof"].as_str().unwrap(), map["epoch"].as_u64().unwrap());
    let guess = "g".repeat(proof.len());
    for header in [format!("0 {guess}"), format!("{} {proof}", epoch + 1_000)] {
        let answer = sent_to(before, alice, room, &header).await;
        assert_eq!(answer.status().as_u16(), 200, "{header}: {answer:?}");
    }
    let answer = sent_to(before, alice, room, &format!("0 {proof}")).await;
    assert_eq!(answer.status().as_u16(), 421);
    assert_eq!(answer.headers()["x-colonnade-owner"], *address(owner));
    let answered: u64 = answer.headers()["x-colonnade-epoch"].to_str().unwrap().parse().unwrap();
    assert!(answered >= epoch, "{answered}");
    let body: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(body["errcode"], "M_UNKNOWN");
}
