//! What finding the rule, the key and the worker of a request costs.
//!
//! `cargo bench -p colonnade-gateway`. The target is half a microsecond for all three together.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use colonnade_gateway::config::{Config, Overrides};
use colonnade_gateway::pipeline::active_config::ActiveConfig;
use colonnade_gateway::routing::request_target::Target as RequestTarget;
use colonnade_gateway::routing::routes::{Method, Target};
use colonnade_gateway::routing::sticky::{self, KeySources};
use colonnade_gateway::routing::table::{RequestFacts, RuleMatch};
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

fn live() -> ActiveConfig {
    let workers = (0..8).map(|n| format!("127.0.0.1:{}", 9000 + n).parse().unwrap()).collect();
    let overrides = Overrides { workers_for_all_pools: Some(workers), ..Overrides::default() };
    ActiveConfig::build(Config::bundled().unwrap().with(&overrides), None, 0).unwrap()
}

fn choose(live: &ActiveConfig, method: &str, target: &str) -> Option<usize> {
    let asks = RequestTarget::parse(target.as_bytes()).ok()?;
    let (path, query) = (asks.path(), asks.query());
    let asked = RequestFacts { method: Method::of(method), path, query, header: &|_| None };
    let RuleMatch::Rule(route) = live.table.find(&asked) else { return None };
    let Target::Pool(place) = route.target else { return None };
    let authorization = Some("Bearer cln_ab_0123456789");
    let client = std::net::IpAddr::from([127, 0, 0, 1]);
    let key = sticky::key(route, &KeySources { path, query, authorization, client });
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
        bencher.iter(|| ActiveConfig::build(Config::bundled().unwrap(), None, 0).unwrap());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = routing
}
criterion_main!(benches);
