//! The gateway with each engine beside nginx, a bare proxy of hyper's and, where it is installed, HAProxy: the
//! same rules, the same worker, the same client, in turns. Prints the CPU time each spends per request and the ratio to nginx, medians
//! over the rounds; then what waiting long polls and idle connections cost.
//!
//! `cargo bench --profile dist -p colonnade-gateway --bench beside_nginx`; `-- --quick` behind it
//! makes a twentieth of the requests. Each runs as one process with one thread for requests, on a core
//! of its own; client and worker have the others. CPU time is the scheduler's count for the process, so a
//! busy machine adds noise but no bias.
#![allow(clippy::unwrap_used, reason = "a benchmark")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark")]

mod beside_nginx {
    pub(crate) mod client;
    pub(crate) mod hyper_proxy;
    pub(crate) mod subjects;
    pub(crate) mod worker;
}
#[path = "../tests/it/trusting.rs"]
mod trusting;

use beside_nginx::client::{Load, Protocol};
use beside_nginx::hyper_proxy;
use beside_nginx::subjects::{self, Setting, Subject};
use beside_nginx::worker;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The allocator of the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Each row is measured so often, in turns.
const ROUNDS: usize = 5;

/// Requests of a row in each round: about a second.
const REQUESTS: usize = 20_000;

/// New TLS connections are a hundred times dearer.
const CONNECTIONS: usize = 1_000;

/// Connections that rest, for the memory row.
const IDLE: usize = 4_000;

/// Long polls that wait at the same time, as far as the limit of descriptors allows: each takes two.
const LONG_POLLS: usize = 10_000;

/// Descriptors a proxy needs besides.
const DESCRIPTORS_BESIDES: usize = 200;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    // As the command does.
    nix::sys::prctl::set_thp_disable(true).unwrap();
    match arguments.get(1).map(String::as_str) {
        Some("role-worker") => worker::run(),
        Some("role-gateway") => subjects::gateway(&arguments[2], &arguments[3]),
        Some("role-hyper") => hyper_proxy::run(&arguments[2]),
        // `cargo test --benches` only wants to know that it starts.
        Some("--test") => {}
        // A look whether everything works; the figures mean little.
        Some("--quick") => measure(20, most as usize),
        _ => measure(1, most as usize),
    }
}

/// Measures every row, with that many times fewer requests.
fn measure(fewer: usize, descriptors: usize) {
    let Some(setting) = subjects::start() else {
        eprintln!("SKIPPED: no nginx on this machine");
        return;
    };
    let (requests, connections) = (REQUESTS / fewer, CONNECTIONS / fewer);
    let send = "/_matrix/client/v3/rooms/%21abcdefghijklmnop%3Aexample.org/send/m.room.message/m1";
    let versions = "/_matrix/client/versions";
    let rows = [
        ("first rule", Load::get("/_matrix/client/v3/sync?since=s1", Protocol::Http1, requests)),
        ("a room's rule", Load::put(send, 200, Protocol::Http1, requests)),
        ("last rule", Load::get("/", Protocol::Http1, requests)),
        (
            "POST 2 KB",
            Load::put("/_matrix/client/v3/keys/upload", 2_048, Protocol::Http1, requests),
        ),
        ("TLS, kept connections", Load::get(versions, Protocol::Tls, requests)),
        ("TLS, new connections", Load::get(versions, Protocol::TlsNew, connections)),
        ("HTTP/2", Load::get(versions, Protocol::Http2, requests)),
    ];
    let names: Vec<&str> = setting.subjects.iter().map(|subject| subject.name).collect();
    println!("| CPU µs per request | {} | direct / nginx | pingora / nginx |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len() + 2));
    for (name, load) in rows {
        let costs = in_turns(&setting.subjects, |subject| cost(subject, &load));
        print_row(name, &costs);
    }
    // Memory that was given back is used again: each of these is measured in processes of its own.
    drop(setting);
    let Some(setting) = subjects::start() else { return };
    let resting: Vec<f64> =
        setting.subjects.iter().map(|subject| resting(subject, IDLE / fewer)).collect();
    print_row("memory per idle connection, kB", &resting);
    drop(setting);
    let Some(setting) = subjects::start() else { return };
    let long_polls = LONG_POLLS.min((descriptors - DESCRIPTORS_BESIDES) / 2) / fewer;
    let poll =
        Load::get("/_matrix/client/v3/sync?since=s1&timeout=500000", Protocol::Http1, long_polls);
    let costs: Vec<_> =
        setting.subjects.iter().map(|subject| park(&setting, subject, &poll)).collect();
    print_row(&format!("{long_polls} long polls, from request to answer"), &first(&costs));
    print_row("memory per waiting long poll, kB", &second(&costs));
}

/// The median of each over the rounds; who begins changes, so that nobody always meets the warmer machine.
fn in_turns(subjects: &[Subject], measured: impl Fn(&Subject) -> f64) -> Vec<f64> {
    let mut costs = vec![Vec::new(); subjects.len()];
    for round in 0..ROUNDS {
        for turn in 0..subjects.len() {
            let which = (turn + round) % subjects.len();
            costs[which].push(measured(&subjects[which]));
        }
    }
    costs.into_iter().map(median).collect()
}

fn print_row(name: &str, costs: &[f64]) {
    let shown = |cost: &f64| if cost.is_nan() { "–".to_owned() } else { format!("{cost:.1}") };
    let cells: Vec<String> = costs.iter().map(shown).collect();
    let ratios = (costs[0] / costs[2], costs[1] / costs[2]);
    println!("| {name} | {} | {:.2} | {:.2} |", cells.join(" | "), ratios.0, ratios.1);
}

/// CPU microseconds per request; no number where it cannot do that.
fn cost(subject: &Subject, load: &Load) -> f64 {
    if subject.is_bare && !load.is_plain() {
        return f64::NAN;
    }
    let before = subject.cpu_us();
    load.run(subject);
    (subject.cpu_us() - before) / load.requests as f64
}

/// CPU microseconds and kilobytes per long poll.
fn park(setting: &Setting, subject: &Subject, poll: &Load) -> (f64, f64) {
    let (cpu, memory) = (subject.cpu_us(), subject.resident_kb());
    let long_polls = poll.park(subject, setting.worker_address, poll.requests);
    let grown = subject.resident_kb() - memory;
    long_polls.release();
    let count = poll.requests as f64;
    ((subject.cpu_us() - cpu) / count, grown / count)
}

fn first(pairs: &[(f64, f64)]) -> Vec<f64> {
    pairs.iter().map(|pair| pair.0).collect()
}

fn second(pairs: &[(f64, f64)]) -> Vec<f64> {
    pairs.iter().map(|pair| pair.1).collect()
}

/// Kilobytes per connection that has made one request and rests.
fn resting(subject: &Subject, count: usize) -> f64 {
    let before = subject.resident_kb();
    let versions = "/_matrix/client/versions";
    let held = Load::get(versions, Protocol::Http1, 1).hold(subject, count);
    let after = subject.resident_kb();
    drop(held);
    (after - before) / count as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
