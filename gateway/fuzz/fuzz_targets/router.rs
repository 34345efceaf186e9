//! Any method, target and authorization against the bundled table: no panic, and a rule that is found
//! always takes the path as a whole.
#![no_main]

use std::sync::LazyLock;

use colonnade_gateway::config::{Config, Overrides};
use colonnade_gateway::live::Live;
use colonnade_gateway::routes::{Method, Target};
use colonnade_gateway::sticky::{self, Clues};
use colonnade_gateway::table::{Asked, Found};
use colonnade_gateway::request_target::Target as Asks;
use libfuzzer_sys::fuzz_target;

static LIVE: LazyLock<Live> = LazyLock::new(|| {
    let workers = vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()];
    let overrides = Overrides { workers_for_all_pools: Some(workers), ..Overrides::default() };
    Live::build(Config::bundled().unwrap().with(&overrides), None, 0).unwrap()
});

fuzz_target!(|input: (&str, &str, Option<&str>)| {
    let (method, target, authorization) = input;
    let Ok(asks) = Asks::parse(target.as_bytes()) else { return };
    assert_eq!(Asks::parse(asks.as_str().as_bytes()).as_ref(), Ok(&asks), "one reading");
    let (path, query) = (asks.path(), asks.query());
    let asked = Asked { method: Method::of(method), path, query, header: &|_| None };
    if let Found::Rule(route) = LIVE.table.find(&asked) {
        assert!(path.starts_with('/') && route.methods.has(Method::of(method)));
        let client = std::net::IpAddr::from([127, 0, 0, 1]);
        let key = sticky::key(route, &Clues { path, query, authorization, client });
        if let Target::Pool(place) = route.target {
            assert!(LIVE.pools[place].choose(key.as_deref(), &[], 0).is_some());
        }
    }
});
