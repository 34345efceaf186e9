//! What a message costs in a room of 1,000 other servers: `cargo bench --profile dist -p colonnade-core --bench
//! destinations`. All servers are one that takes every transaction, in a thread whose CPU time is not counted. A
//! message counts as sent when all have it; the first, which opens a connection to each, is printed by itself. Also
//! printed: how many writes the database took meanwhile, and by how much memory grew.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "world/measure.rs"]
mod measure;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use colonnade_model::ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedUserId, RoomId, ServerName, UserId,
    signatures::Ed25519KeyPair,
};
use colonnade_rooms::{
    Room,
    incoming::Incoming,
    proposal::{content, member},
};
use colonnade_rules::event::complete;
use colonnade_services::Services;
use colonnade_testkit::{
    Client,
    authority::Authority,
    federation::Federation,
    peer::{self, PeerAddress},
};
use serde_json::{Value, json};

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Servers in the room, unless an argument says how many.
const SERVERS: usize = 1_000;
/// Messages that are measured.
const MESSAGES: usize = 20;
/// How often the thread of the other servers says what it used.
const SAID_EVERY: Duration = Duration::from_millis(20);

/// All other servers.
struct Others {
    /// PDUs they have.
    taken: Arc<AtomicUsize>,
    /// CPU time of their thread, in microseconds.
    cpu: Arc<AtomicU64>,
}

#[tokio::main]
async fn main() {
    nix::sys::prctl::set_thp_disable(true).expect("Linux");
    let count = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(SERVERS);
    let (address, begin, others) = others();
    let at = OwnedServerName::try_from(address).expect("an address");
    let servers = Federation::with(1, |_, settings| {
        for number in 0..count {
            settings.federation.overrides.insert(name(number), at.clone());
        }
    })
    .await;
    begin.send(servers.authority.issue("*.many.test")).expect("the other thread");
    let alice = servers[0].user("alice").await;
    let made =
        alice.post("/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await;
    let made = made.ok();
    let room_id = RoomId::parse(made["room_id"].as_str().expect("an id")).expect("an id");
    let inside = servers[0].inside().await;
    let services = &inside.services;
    let room = services.rooms.find(&room_id).await.expect("a database").expect("the room");
    for number in 0..count {
        let user = UserId::parse(format!("@user:{}", name(number))).expect("a user id");
        join(services, &room, user).await;
    }
    let first = measured(&alice, services, room_id.as_str(), &others, (0, 1, count)).await;
    println!("the first message to {count} servers: {first}");
    let each = measured(&alice, services, room_id.as_str(), &others, (1, MESSAGES, count)).await;
    println!("each of the next {MESSAGES}: {each}");
}

/// Sends messages, each when all have the one before, and says what one of them costs.
async fn measured(
    alice: &Client,
    services: &Services,
    room: &str,
    others: &Others,
    (first, messages, count): (usize, usize, usize),
) -> String {
    let room = room.replace('!', "%21").replace(':', "%3A");
    let theirs = || others.cpu.load(Ordering::Relaxed);
    let writes = || services.context.db.stats().batch_writes.sum();
    let (cpu, cpu_theirs, written, memory) =
        (measure::cpu(), theirs(), writes(), measure::resident());
    measure::forget_peak();
    let begun = Instant::now();
    for number in first..first + messages {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}");
        let body = json!({ "msgtype": "m.text", "body": format!("message number {number}") });
        let before = others.taken.load(Ordering::Relaxed);
        alice.put(&path, body).await.ok();
        while others.taken.load(Ordering::Relaxed) < before + count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let clock = begun.elapsed();
    tokio::time::sleep(SAID_EVERY * 2).await;
    let cpu = (measure::cpu() - cpu).as_micros() as f64 - (theirs() - cpu_theirs) as f64;
    let each = |whole: f64| whole / messages as f64;
    format!(
        "{:.0} ms by the clock, {:.0} ms of CPU, {:.0} writes; {} MB more at most",
        each(clock.as_secs_f64() * 1e3),
        each(cpu / 1e3),
        each(writes() - written),
        measure::peak().saturating_sub(memory) >> 20,
    )
}

/// Lets a user of another server join, as if its server had sent the event.
async fn join(services: &Services, room: &Arc<Room>, user: OwnedUserId) {
    let joined = content(json!({ "membership": "join" })).expect("an object");
    let template = services.rooms.template(room, member(&user, &user, joined)).await;
    let template: CanonicalJsonObject = template.expect("a public room");
    let key = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).expect("a key");
    let random = &*services.context.random;
    let event =
        complete(template, user.server_name(), &key, &room.rules, random).expect("an event");
    services.rooms.receive(room, Incoming::following(event)).await.expect("a database");
}

fn name(number: usize) -> OwnedServerName {
    ServerName::parse(format!("s{number}.many.test")).expect("a server name")
}

/// Starts the other servers in a thread of their own; they answer once they have a certificate.
fn others() -> (String, mpsc::Sender<colonnade_testkit::authority::Issued>, Others) {
    let (address, addressed) = mpsc::channel();
    let (begin, begun) = mpsc::channel::<colonnade_testkit::authority::Issued>();
    let others = Others { taken: Arc::default(), cpu: Arc::default() };
    let (taken, cpu) = (Arc::clone(&others.taken), Arc::clone(&others.cpu));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async move {
            let peer = PeerAddress::at("127.0.0.9", "*.many.test").await;
            address.send(peer.address().to_string()).expect("the main thread");
            let issued = begun.recv().expect("a certificate");
            let _peer = peer.answer_as(Authority::acceptor_of(&issued), move |asked| {
                let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
                taken.fetch_add(body["pdus"].as_array().map_or(0, Vec::len), Ordering::Relaxed);
                peer::ok("content-type: application/json\r\n", b"{\"pdus\":{}}")
            });
            loop {
                let used = measure::cpu_of_thread().as_micros();
                cpu.store(u64::try_from(used).unwrap_or(0), Ordering::Relaxed);
                tokio::time::sleep(SAID_EVERY).await;
            }
        });
    });
    (addressed.recv().expect("an address"), begin, others)
}
