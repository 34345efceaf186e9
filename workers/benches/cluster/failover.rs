//! How long writes to a room stop when the process that owns it is killed, or paused.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::task::JoinSet;

use super::{
    load::Load,
    stand::{Stand, Store},
};

/// Workers; one of them is the victim.
const WORKERS: usize = 3;
/// Rooms, enough that each worker owns some.
const ROOMS: usize = 24;

/// Kills and pauses so often each; prints the longest pause of any room, each time.
pub(crate) async fn measure(rounds: usize) {
    let mut stand = Stand::new(Store::Postgres, WORKERS).await;
    let load = Load::new(&stand.url(), ROOMS).await;
    for (what, signal) in [("killed", Signal::SIGKILL), ("paused", Signal::SIGSTOP)] {
        let mut gaps = Vec::new();
        for _ in 0..rounds {
            gaps.push(gap(&stand, &load, signal).await);
            // It finds that others own what it had, and ends; a new one takes its place.
            let victim = stand.workers.remove(0);
            victim.signal(Signal::SIGCONT);
            drop(victim);
            stand.workers.push(stand.another_worker("all"));
            stand.settle(WORKERS).await;
        }
        gaps.sort_unstable();
        let seconds: Vec<String> =
            gaps.iter().map(|gap| format!("{:.1}", gap.as_secs_f64())).collect();
        println!(
            "an owner is {what}: its rooms accept events again after {} s at most ({})",
            seconds.last().unwrap(),
            seconds.join(", ")
        );
    }
}

/// From the signal until every room has accepted an event that was sent after it.
async fn gap(stand: &Stand, load: &Load, signal: Signal) -> Duration {
    load.at_once(Duration::from_secs(1)).await;
    stand.workers[0].signal(signal);
    let begun = Instant::now();
    let mut rooms = JoinSet::new();
    for room in 0..ROOMS {
        let load = load.clone();
        rooms.spawn(async move { load.insist(room).await });
    }
    let last = rooms.join_all().await.into_iter().max().unwrap();
    last.duration_since(begun)
}
