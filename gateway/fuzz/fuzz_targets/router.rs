//! Any method, target and authorization against the bundled table: no panic, and a rule that is found
//! always takes the path as a whole.
#![no_main]

use std::sync::LazyLock;

use colonnade_gateway::config::{Config, Overrides};
use colonnade_gateway::pipeline::active_config::ActiveConfig;
use colonnade_gateway::routing::routes::{Method, Target};
use colonnade_gateway::routing::sticky::{KeySources, self};
use colonnade_gateway::routing::table::{RequestFacts, RuleMatch};
use colonnade_gateway::routing::request_target::Target as RequestTarget;
use libfuzzer_sys::fuzz_target;

static LIVE: LazyLock<ActiveConfig> = LazyLock::new(|| {
    let workers = vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
    let overrides = Overrides { workers_for_all_pools: Some(workers), ..Overrides::default() };
    ActiveConfig::build(Config::bundled().unwrap().with(&overrides), None, 0).unwrap()
});

fuzz_target!(|input: (&str, &str, Option<&str>)| {
    let (method, target, authorization) = input;
    let Ok(asks) = RequestTarget::parse(target.as_bytes()) else { return };
    assert_eq!(RequestTarget::parse(asks.as_str().as_bytes()).as_ref(), Ok(&asks), "one reading");
    let (path, query) = (asks.path(), asks.query());
    let asked = RequestFacts { method: Method::of(method), path, query, header: &|_| None };
    if let RuleMatch::Rule(route) = LIVE.table.find(&asked) {
        assert!(path.starts_with('/') && route.methods.has(Method::of(method)));
        let client = std::net::IpAddr::from([127, 0, 0, 1]);
        let key = sticky::key(route, &KeySources { path, query, authorization, client });
        if let Target::Pool(place) = route.target {
            assert!(LIVE.pools[place].choose(key.as_deref(), &[], 0).is_some());
        }
    }
});
