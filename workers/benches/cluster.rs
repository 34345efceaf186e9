//! What many processes cost and carry, with real ones over a PostgreSQL and a Redis of their own: events per
//! second and CPU per event for one process and for many, what a worker spends to follow events that
//! others write, memory of a worker, and how long writes stop when an owner is killed or paused.
//!
//! `cargo bench --profile dist -p colonnade-workers --bench cluster` (`make bench-cluster`), about five
//! minutes; `-- --quick` behind it takes a fifth of the time. Clients, gateway, workers, PostgreSQL and
//! Redis share the machine; CPU time is the kernel's count for each process, so a busy machine adds
//! noise but no bias. Events per second are what this machine carries with all of them on it.
#![allow(clippy::unwrap_used, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "a benchmark")]

mod cluster {
    pub(crate) mod cpu;
    pub(crate) mod failover;
    pub(crate) mod load;
    pub(crate) mod stand;
}
#[path = "../tests/it/process.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod process;

use std::time::Duration;

use cluster::{
    cpu::Used,
    failover,
    load::Load,
    stand::{Stand, Store},
};

/// Rooms that are written to at once, each by one client that waits for its answers.
const ROOMS: usize = 24;
/// Events a second that others write while a worker follows.
const FOLLOWED_PER_SECOND: u32 = 40;
/// Kills, and pauses.
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    // `cargo test --benches` only wants to know that it starts.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let (span, rounds) = if quick { (4, 1) } else { (20, ROUNDS) };
    let span = Duration::from_secs(span);
    println!(
        "| shape | events/s | worker ms/event | PostgreSQL ms/event | gateway ms/event | memory of a worker |"
    );
    println!("|---|---|---|---|---|---|");
    rate("one process, SQLite", &Stand::new(Store::Sqlite, 1).await, span).await;
    for count in [1, 2, 4] {
        let what = format!("{count} on PostgreSQL and Redis");
        rate(&what, &Stand::new(Store::Postgres, count).await, span).await;
    }
    println!();
    following(span).await;
    println!();
    failover::measure(rounds).await;
}

/// Events per second with every client waiting for its answers, and what each cost.
async fn rate(what: &str, stand: &Stand, span: Duration) {
    let load = Load::new(&stand.url(), ROOMS).await;
    // Caches and connections first.
    load.at_once(span / 10).await;
    let before = stand.used();
    let begun = std::time::Instant::now();
    let events = load.at_once(span).await;
    let took = begun.elapsed();
    let used = stand.used() - before;
    let each = |seconds: f64| seconds * 1_000.0 / events as f64;
    println!(
        "| {what} | {:.0} | {:.2} | {:.2} | {:.2} | {} MB |",
        events as f64 / took.as_secs_f64(),
        each(used.workers),
        each(used.postgres),
        each(used.gateway),
        stand.memory_mb(),
    );
}

/// What a worker spends while others write and none of its clients is there.
async fn following(span: Duration) {
    let stand = Stand::new(Store::Postgres, 1).await;
    let follower = stand.another_worker("sync");
    let load = Load::new(&stand.url(), ROOMS).await;
    load.at_once(Duration::from_secs(1)).await;
    // What follows a burst is not idleness.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let idle = spent(&follower, tokio::time::sleep(span)).await;
    let busy = spent(&follower, load.steady(FOLLOWED_PER_SECOND, span)).await;
    println!(
        "following {FOLLOWED_PER_SECOND} events a second that others write: {:.2} % of a core \
         ({:.2} % when nobody writes)",
        100.0 * busy / span.as_secs_f64(),
        100.0 * idle / span.as_secs_f64(),
    );
}

/// Seconds of CPU a process uses while something goes on.
async fn spent(process: &process::Server, meanwhile: impl Future<Output = ()>) -> f64 {
    let before = Used::of_process(process.pid());
    meanwhile.await;
    Used::of_process(process.pid()) - before
}
