//! The gateway and nginx side by side: the same rules, the same worker, the same client, in turns.
//! Prints the CPU time each spends per request and the ratio, medians over the rounds.
//!
//! `cargo bench --profile dist -p colonnade-gateway --bench beside_nginx`. Both run as one process
//! with one thread for requests; the client and the worker are processes of their own. CPU time is
//! the kernel's count for the process, so a busy machine adds noise but no bias.
#![allow(clippy::unwrap_used, reason = "a benchmark")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark")]

mod beside_nginx {
    pub(crate) mod client;
    pub(crate) mod subjects;
}

use beside_nginx::client::{Load, Protocol};
use beside_nginx::subjects::{self, Subject};

/// Each row is measured so often, in turns.
const ROUNDS: usize = 5;

/// Clock ticks of the kernel's counters are 10 ms: so many requests make them small.
const REQUESTS: usize = 20_000;

/// New TLS connections are a hundred times dearer.
const CONNECTIONS: usize = 1_000;

/// Connections that rest, for the memory row.
const RESTING: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("role-worker") => subjects::worker(),
        Some("role-gateway") => subjects::gateway(&arguments[2]),
        // `cargo test --benches` only wants to know that it starts.
        Some("--test") => {}
        // A look whether everything works; the figures mean little.
        Some("--quick") => measure(20),
        _ => measure(1),
    }
}

/// Measures every row, with that many times fewer requests.
fn measure(fewer: usize) {
    let Some(mut setting) = subjects::start() else {
        eprintln!("SKIPPED: no nginx on this machine");
        return;
    };
    let (requests, connections) = (REQUESTS / fewer, CONNECTIONS / fewer);
    let send = "/_matrix/client/v3/rooms/%21abcdefghijklmnop%3Aexample.org/send/m.room.message/m1";
    let rows = [
        ("first rule", Load::get("/_matrix/client/v3/sync?since=s1", Protocol::Http1, requests)),
        ("a room's rule", Load::put(send, 200, Protocol::Http1, requests)),
        ("last rule", Load::get("/", Protocol::Http1, requests)),
        (
            "POST 2 KB",
            Load::put("/_matrix/client/v3/keys/upload", 2_048, Protocol::Http1, requests),
        ),
        ("TLS, kept connections", Load::get("/_matrix/client/versions", Protocol::Tls, requests)),
        (
            "TLS, new connections",
            Load::get("/_matrix/client/versions", Protocol::TlsNew, connections),
        ),
    ];
    println!("| row | gateway µs | nginx µs | ratio |\n|---|---|---|---|");
    for (name, load) in rows {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for turn in 0..2 {
                // Whoever begins changes, so that neither always meets the warmer machine.
                let which = (turn + round) % 2;
                costs[which].push(cost(&setting.subjects[which], &load));
            }
        }
        let [ours, theirs] = costs.map(median);
        println!("| {name} | {ours:.1} | {theirs:.1} | {:.2} |", ours / theirs);
    }
    let [ours, theirs] = [0, 1].map(|which| resting(&setting.subjects[which]));
    println!(
        "| memory per resting connection, kB | {ours:.1} | {theirs:.1} | {:.2} |",
        ours / theirs
    );
    setting.stop();
}

/// CPU microseconds per request.
fn cost(subject: &Subject, load: &Load) -> f64 {
    let before = subject.cpu_us();
    load.run(subject);
    (subject.cpu_us() - before) / load.requests as f64
}

/// Kilobytes per connection that has made one request and rests.
fn resting(subject: &Subject) -> f64 {
    let before = subject.resident_kb();
    let held = Load::get("/_matrix/client/versions", Protocol::Http1, 1).hold(subject, RESTING);
    let after = subject.resident_kb();
    drop(held);
    (after - before) / RESTING as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
