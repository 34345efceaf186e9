//! One server's rubbish, and what another one's events wait for it.

use colonnade_federation::transaction::Transaction;
use colonnade_model::ruma::ServerName;
use colonnade_testkit::federation::Federation;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::rooms::{create, join, say, sees};

/// Rooms that are sent rubbish.
const ROOMS: usize = 16;
/// Transactions of it that arrive at once.
const TRANSACTIONS: usize = 24;

/// A transaction of events that are no one's, large and with signatures to look at.
fn rubbish(rooms: &[String], number: usize) -> Transaction {
    let pdus: Vec<Value> = (0..50)
        .map(|place| {
            let signature = "A".repeat(86);
            json!({
                "type": "m.room.message", "sender": "@evil:hs2", "room_id": rooms[place % rooms.len()],
                "content": { "body": "x".repeat(40_000) }, "depth": 5, "origin_server_ts": number,
                "prev_events": ["$a"], "auth_events": ["$b"], "hashes": { "sha256": "" },
                "signatures": { "hs2": { "ed25519:0": signature, "ed25519:1": signature } },
            })
        })
        .collect();
    Transaction::read(json!({ "pdus": pdus }).to_string().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_that_sends_rubbish_to_many_rooms_does_not_keep_others_waiting() {
    let servers = Federation::start(3).await;
    let alice = servers[0].user("alice").await;
    let carol = servers[2].user("carol").await;
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let request = json!({ "preset": "public_chat", "room_version": "11" });
        rooms.push(create(&alice, request).await);
    }
    join(&carol, &rooms[0], "hs1").await;
    let services = &servers[0].inside().await.services;
    let evil: &ServerName = "hs2".try_into().unwrap();
    let flood = stream::iter(0..TRANSACTIONS).for_each_concurrent(None, |number| {
        let (rooms, name) = (&rooms, format!("rubbish{number}"));
        async move {
            let taken = services.federation.take_transaction(evil, &name, rubbish(rooms, number));
            let answer: Value = serde_json::from_slice(&taken.await.unwrap()).unwrap();
            let results = answer["pdus"].as_object().unwrap();
            assert!(results.values().all(|result| result["error"].is_string()), "{answer}");
        }
    });
    let said = async {
        for number in 0..10 {
            let text = format!("in between {number}");
            say(&carol, &rooms[0], &text).await;
            sees(&alice, &rooms[0], &text).await;
        }
    };
    tokio::join!(flood, said);
    // One turn of each other server that sends, and of the few things besides that are checked now and then.
    let (given, waited_most) = services.federation.check_figures();
    assert!(given > 2 * TRANSACTIONS as u64, "{given} turns");
    assert!(waited_most <= 4, "somebody waited for {waited_most} turns of others");
}
