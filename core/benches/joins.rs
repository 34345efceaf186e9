//! What it takes to join a room of many members on another server: `cargo bench --profile dist -p colonnade-core
//! --bench joins -- 10000`. Two servers in this process speak over TLS, one of which has the room; a user of the
//! other joins. Printed are the seconds that takes by the clock and in CPU time, and by how much the memory of the
//! process grew at most meanwhile, both servers taken together. The limits are 20 s on two cores and 300 MB. Then each
//! changes the state while the other is away, and what it takes to resolve that is printed.
#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]

#[path = "world/measure.rs"]
mod measure;

use std::time::Instant;

use colonnade_federation::transaction::Transaction;
use colonnade_model::{
    nid::DeviceNid,
    ruma::{OwnedRoomId, RoomId, ServerName, UserId},
    session::{Restriction, Session},
};
use colonnade_services::Services;
use colonnade_testkit::federation::Federation;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Members of the room, unless an argument says how many.
const MEMBERS: usize = 10_000;
/// Members who join at a time while the room is made: what a commit takes together.
const TOGETHER: usize = 64;

#[tokio::main]
async fn main() {
    // As the command does.
    nix::sys::prctl::set_thp_disable(true).expect("Linux");
    let members = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(MEMBERS);
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let request = json!({ "preset": "public_chat", "name": "Square", "room_version": "11" });
    let made = alice.post("/_matrix/client/v3/createRoom", request).await.ok();
    let room = RoomId::parse(made["room_id"].as_str().expect("a room id")).expect("a room id");
    let begun = Instant::now();
    fill(&servers[0].inside().await.services, &room, members).await;
    println!("a room of {members} members was made in {:.1} s", begun.elapsed().as_secs_f64());

    let (before, cpu) = (measure::resident(), measure::cpu());
    measure::forget_peak();
    let begun = Instant::now();
    let path = format!("/_matrix/client/v3/join/{}?via=hs1", room.as_str().replace('!', "%21"));
    bob.post(&path.replace(':', "%3A"), json!({})).await.ok();
    let (clock, cpu, peak) = (begun.elapsed(), measure::cpu() - cpu, measure::peak());
    let joined = servers[1].inside().await;
    let figures = joined.services.federation.join_figures();
    println!(
        "joined in {:.2} s, {:.2} s of CPU, {} events; {} MB before, {} MB more at most",
        clock.as_secs_f64(),
        cpu.as_secs_f64(),
        figures.1,
        before >> 20,
        peak.saturating_sub(before) >> 20,
    );

    servers.cut(0);
    servers.cut(1);
    let address = format!("/_matrix/client/v3/rooms/{}/state/m.room.topic", room.as_str());
    let address = address.replace('!', "%21").replace(':', "%3A");
    alice.put(&address, json!({ "topic": "of alice" })).await.ok();
    let profile = "/_matrix/client/v3/profile/@bob:hs2/displayname";
    bob.put(profile, json!({ "displayname": "Bob" })).await.ok();
    fork(&servers, &room).await;
}

/// Lets the server of the room take what the other one's user changed meanwhile.
async fn fork(servers: &Federation, room: &RoomId) {
    let (ours, theirs) = (servers[0].inside().await, servers[1].inside().await);
    let there = theirs.services.rooms.find(room).await.expect("a database").expect("the room");
    let kind = "m.room.member";
    let mut member = None;
    // The profile goes to the rooms one by one.
    while member.as_ref().is_none_or(|text: &String| !text.contains("\"Bob\"")) {
        let event = theirs.services.rooms.state_event(there.nid, kind, "@bob:hs2").await;
        member = event.expect("a database").map(|event| event.event.json().to_owned());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let body = format!("{{\"pdus\":[{}]}}", member.unwrap_or_default());
    let transaction = Transaction::read(body.as_bytes()).expect("a transaction");
    let (begun, cpu) = (Instant::now(), measure::cpu());
    let origin: &ServerName = "hs2".try_into().expect("a name");
    let taken = ours.services.federation.take_transaction(origin, "fork", transaction).await;
    let answer = String::from_utf8(taken.expect("a database")).expect("JSON");
    assert!(!answer.contains("error"), "{answer}");
    println!(
        "a fork of its state was resolved in {:.1} ms, {:.1} ms of CPU",
        begun.elapsed().as_secs_f64() * 1e3,
        (measure::cpu() - cpu).as_secs_f64() * 1e3,
    );
}

/// Lets users join who have no account: only their membership counts.
async fn fill(services: &Services, room: &OwnedRoomId, members: usize) {
    stream::iter(0..members)
        .for_each_concurrent(TOGETHER, |number| async move {
            let user_id = UserId::parse(format!("@member{number}:hs1")).expect("a user id");
            let user = services.context.interned.user(&user_id).await.expect("a database");
            let device = DeviceNid(user.0);
            let session = Session {
                user_id,
                user,
                device_id: "D".into(),
                device,
                address: None,
                is_guest: false,
                restriction: Restriction::None,
            };
            let joined =
                services.membership.join(&session, (&**room).into(), &[], Default::default());
            joined.await.expect("a member");
        })
        .await;
}
