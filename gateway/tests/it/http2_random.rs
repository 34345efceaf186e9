//! HTTP/2 at random: what the fuzz target `http2_frames` does, for as many programs as a test run can afford.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::frames::{Wire, play};
use crate::http2::{ask, connect, request, start};
use crate::trusting::Trusting;
use crate::worker::{Act, Worker};

/// Programs a run plays.
const PROGRAMS: u64 = 100;

/// The longest of them, in bytes.
const PROGRAM_BYTES_MAX: u64 = 400;

/// The next number of a series (SplitMix64).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Notes when a thread of a gateway panics, which nobody else would hear of.
fn watch_gateways() -> Arc<AtomicBool> {
    let panicked = Arc::new(AtomicBool::new(false));
    let (noted, before) = (Arc::clone(&panicked), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let is_gateway = std::thread::current().name() == Some("gateway");
        noted.fetch_or(is_gateway, Ordering::Relaxed);
        before(panic);
    }));
    panicked
}

/// Frames in any order, some of them whole requests: no thread of the gateway panics, it writes nothing but
/// frames, always answers or closes, and no worker sees a request that lacks what the gateway adds.
#[tokio::test]
async fn frames_in_any_order_harm_nobody() {
    let worker = Worker::start(|seen| match seen.target.as_str() {
        "/large" => Act::Say("y".repeat(100_000)),
        _ => Act::Say("w".into()),
    })
    .await;
    let limits =
        "header_bytes: 4KiB, body_timeout: 100ms, body_bytes: 16KiB, keepalive_timeout: 100ms";
    let gateway = start(limits, &worker);
    let panicked = watch_gateways();
    let (address, seed) = (gateway.addrs()[0], u64::from(std::process::id()));
    println!("seed {seed}");
    let played = tokio::task::spawn_blocking(move || {
        let client = Arc::new(Arc::new(Trusting::default()).client(&[b"h2"]));
        let mut state = seed;
        let programs = (0..PROGRAMS).filter(|_| {
            let length = next(&mut state) % PROGRAM_BYTES_MAX;
            let program: Vec<u8> = (0..length).map(|_| next(&mut state) as u8).collect();
            let wire = Wire::open(address, &client);
            wire.is_some_and(|mut wire| play(&mut wire, &program).is_some())
        });
        programs.count()
    });
    let whole = played.await.unwrap();
    println!("{whole} of {PROGRAMS} programs came to their end, {} requests", worker.count());
    assert!(!panicked.load(Ordering::Relaxed), "a thread of the gateway panicked, seed {seed}");
    for seen in worker.seen.lock().unwrap().iter() {
        let times = |name: &str| seen.headers.iter().filter(|(known, _)| known == name).count();
        assert_eq!((times("x-request-id"), times("x-forwarded-for")), (1, 1), "{seed}: {seen:?}");
        assert!(seen.target.starts_with('/'), "{seed}: {seen:?}");
    }
    let mut other = connect(&gateway).await;
    assert_eq!(ask(&mut other, request("GET", "/a"), None).await.unwrap().body(), b"w");
}
