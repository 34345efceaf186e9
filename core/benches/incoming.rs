//! What an event of another server costs, in CPU time of the process: `cargo bench --profile dist -p colonnade-core
//! --bench incoming`. A user of one server writes while the other is cut off; then that one takes the events, from
//! the body of a transaction to the answer: read, checked (form, hash, signature), authorized three times, stored.
//! The limit is 1 ms for an event that comes alone. HTTP and the signature of the request are not in it.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "world/measure.rs"]
mod measure;

use colonnade_federation::transaction::Transaction;
use colonnade_model::ruma::{EventId, OwnedEventId, ServerName};
use colonnade_services::Services;
use colonnade_testkit::{Client, federation::Federation};
use serde_json::{Value, json};

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of each measurement.
const EVENTS: usize = 500;
/// Events of a transaction of many.
const TOGETHER: usize = 50;

#[tokio::main]
async fn main() {
    let mut servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let request = json!({ "preset": "public_chat", "room_version": "11" });
    let made = alice.post("/_matrix/client/v3/createRoom", request).await.ok();
    let room = made["room_id"].as_str().expect("a room id").replace('!', "%21").replace(':', "%3A");
    bob.post(&format!("/_matrix/client/v3/join/{room}?via=hs1"), json!({})).await.ok();
    servers.cut(0);
    servers.cut(1);
    let mut said = Vec::new();
    for number in 0..2 * EVENTS + 1 {
        said.push(say(&bob, &room, number).await);
    }
    let theirs = &servers[1].inside().await.services;
    let events = theirs.rooms.events_by_ids(&said).await.expect("a database");
    let text = |id: &OwnedEventId| {
        let event = events.iter().find(|event| event.event.event_id() == id);
        event.expect("an event").event.json().to_owned()
    };
    let pdus: Vec<String> = said.iter().map(text).collect();
    drop(events);
    servers[1].close().await;
    let ours = servers[0].inside().await;
    // What is fetched once, such as keys, does not count.
    take(&ours.services, "first", &pdus[..1]).await;
    let rest = &pdus[1..];
    let alone = cost(&ours.services, rest[..EVENTS].chunks(1)).await;
    println!("an event that comes alone: {alone:.0} µs of CPU");
    let together = cost(&ours.services, rest[EVENTS..].chunks(TOGETHER)).await;
    let all = together * TOGETHER as f64 / 1_000.0;
    println!("one of {TOGETHER} that come together: {together:.0} µs, all of them {all:.1} ms");
}

/// Takes transactions, and returns the CPU time of an event, in microseconds.
async fn cost(services: &Services, transactions: impl Iterator<Item = &[String]>) -> f64 {
    let (before, mut events) = (measure::cpu(), 0);
    for pdus in transactions {
        let name = format!("{}-{events}", pdus.len());
        take(services, &name, pdus).await;
        events += pdus.len();
    }
    (measure::cpu() - before).as_secs_f64() * 1e6 / events as f64
}

async fn take(services: &Services, txn_id: &str, pdus: &[String]) {
    let body =
        format!("{{\"origin\":\"hs2\",\"origin_server_ts\":1,\"pdus\":[{}]}}", pdus.join(","));
    let transaction = Transaction::read(body.as_bytes()).expect("a transaction");
    let origin: &ServerName = "hs2".try_into().expect("a name");
    let taken = services.federation.take_transaction(origin, txn_id, transaction).await;
    let answer: Value = serde_json::from_slice(&taken.expect("a database")).expect("JSON");
    let results = answer["pdus"].as_object().expect("results");
    assert_eq!(results.len(), pdus.len());
    assert!(results.values().all(|result| result == &json!({})), "{answer}");
}

async fn say(client: &Client, room: &str, number: usize) -> OwnedEventId {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{number}");
    let body = json!({ "msgtype": "m.text", "body": format!("message number {number}") });
    let sent = client.put(&path, body).await.ok();
    EventId::parse(sent["event_id"].as_str().expect("an event id")).expect("an event id")
}
