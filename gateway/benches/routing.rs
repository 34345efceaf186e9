//! What finding the rule, the key and the worker of a request costs.
//!
//! `cargo bench -p colonnade-gateway`. The target is half a microsecond for all three together.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use colonnade_gateway::config::{Config, Overrides};
use colonnade_gateway::live::Live;
use colonnade_gateway::request_target::Target as Asks;
use colonnade_gateway::routes::{Method, Target};
use colonnade_gateway::sticky::{self, Clues};
use colonnade_gateway::table::{Asked, Found};
use criterion::{Criterion, criterion_group, criterion_main};

/// The first rule, one in the middle, the last, and none.
const TARGETS: [(&str, &str, &str); 4] = [
    ("first", "GET", "/_matrix/client/v3/sync?since=s1&timeout=30000"),
    (
        "send",
        "PUT",
        "/_matrix/client/v3/rooms/%21abcdefghijklmnop%3Aexample.org/send/m.room.message/m1",
    ),
    ("last", "GET", "/_synapse/admin/v1/rooms/%21abcdefghijklmnop%3Aexample.org/state"),
    ("none", "GET", "/_matrix/client/v3/rooms/%21abcdefghijklmnop%3Aexample.org/nonsense"),
];

fn live() -> Live {
    let workers = (0..8).map(|n| format!("127.0.0.1:{}", 9000 + n).parse().unwrap()).collect();
    let overrides = Overrides { workers_for_all_pools: Some(workers), ..Overrides::default() };
    Live::build(Config::bundled().unwrap().with(&overrides), None, 0).unwrap()
}

fn choose(live: &Live, method: &str, target: &str) -> Option<usize> {
    let asks = Asks::parse(target.as_bytes()).ok()?;
    let (path, query) = (asks.path(), asks.query());
    let asked = Asked { method: Method::of(method), path, query, header: &|_| None };
    let Found::Rule(route) = live.table.find(&asked) else { return None };
    let Target::Pool(place) = route.target else { return None };
    let authorization = Some("Bearer cln_ab_0123456789");
    let client = std::net::IpAddr::from([127, 0, 0, 1]);
    let key = sticky::key(route, &Clues { path, query, authorization, client });
    live.pools[place].choose(key.as_deref(), &[], 0)
}

fn routing(criterion: &mut Criterion) {
    let live = live();
    for (name, method, target) in TARGETS {
        criterion.bench_function(&format!("rule, key and worker: {name}"), |bencher| {
            bencher.iter(|| choose(&live, black_box(method), black_box(target)));
        });
    }
    criterion.bench_function("compiling the bundled file", |bencher| {
        bencher.iter(|| Live::build(Config::bundled().unwrap(), None, 0).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = routing
}
criterion_main!(benches);
