//! The matcher against the plain meaning of the file: every rule tried in order.

use proptest::prelude::*;
use regex::bytes::RegexBuilder;

use super::*;
use crate::config::Config;
use crate::routing::routes::{KeyKind, Target};

/// Every operation of the specification and of the field, with the pool it belongs to.
const ENDPOINTS: &str = include_str!("../../../tests/it/endpoints.tsv");

/// What "first rule in file order wins" means, written as plainly as possible.
struct Naive(Vec<(regex::bytes::Regex, Route)>);

impl Naive {
    fn new(config: &Config) -> Self {
        let regex = |text| RegexBuilder::new(text).unicode(false).build().unwrap();
        let routes = config.routes.iter();
        Self(routes.map(|route| (regex(route.pattern.as_str()), route.clone())).collect())
    }

    fn find(&self, method: Method, path: &str, query: &str) -> Option<usize> {
        let takes = |regex: &regex::bytes::Regex, route: &Route| {
            regex.is_match(path.as_bytes())
                && route.methods.has(method)
                && route.conditions_hold(query, &|_| None)
        };
        self.0.iter().find(|(regex, route)| takes(regex, route)).map(|(_, route)| route.index)
    }
}

fn find<'t>(table: &'t Table, method: &str, path: &str, query: &str) -> RuleMatch<'t> {
    table.find(&RequestFacts { method: Method::of(method), path, query, header: &|_| None })
}

fn bundled() -> (Config, Table) {
    let config = Config::bundled().unwrap();
    let table = Table::compile(config.routes.clone()).unwrap();
    (config, table)
}

#[test]
fn every_operation_goes_to_its_pool_by_its_key() {
    let (config, table) = bundled();
    let mut wrong = Vec::new();
    for line in ENDPOINTS.lines() {
        let mut columns = line.split('\t');
        let (method, path, pool) =
            (columns.next().unwrap(), columns.next().unwrap(), columns.next().unwrap());
        let key = columns.next().unwrap();
        let path = path.replace(['{', '}'], "~");
        // The list gives /sync with a token to the sync pool.
        let found = find(&table, method, &path, "since=s1");
        let reached = match found {
            RuleMatch::Rule(Route { target: Target::Pool(place), .. }) => {
                &config.pools[*place].name
            }
            _ => "nothing",
        };
        let by = match found {
            RuleMatch::Rule(Route { key: Some(KeyKind::Room), .. }) => "room",
            RuleMatch::Rule(Route { key: Some(KeyKind::User), .. }) => "user",
            RuleMatch::Rule(Route { key: Some(KeyKind::Origin), .. }) => "origin",
            _ => "-",
        };
        if (reached, by) != (pool, key) {
            wrong.push(format!("{method} {path}: {reached} by {by}, not {pool} by {key}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_rule_of_the_bundled_file_is_unreachable() {
    let (_, table) = bundled();
    let dead: Vec<&str> = table.unreachable().iter().map(|r| r.pattern.as_str()).collect();
    assert!(dead.is_empty(), "{dead:?}");
}

#[test]
fn unreachable_rules_are_found_exactly() {
    let text = r#"
pools: { a: { balance: single } }
routes:
  - { match: "^/x/[^/]+$", methods: [GET], pool: a }
  - { match: "^/x/y$", methods: [GET], pool: a }
  - { match: "^/x/y$", methods: [GET, PUT], pool: a }
  - { match: "^/(x|z)/y$", methods: [PUT], pool: a }
  - { match: "^/q$", if_query: [since], pool: a }
  - { match: "^/q$", pool: a }
  - { match: "^/(u|v)$", pool: a }
  - { match: "^/u$", pool: a }
"#;
    let config = Config::parse("t", text).unwrap();
    let table = Table::compile(config.routes).unwrap();
    let dead: Vec<usize> = table.unreachable().iter().map(|route| route.index).collect();
    assert_eq!(dead, [1, 7]);
}

#[test]
fn wrong_methods_and_unknown_paths_are_distinguished() {
    let (_, table) = bundled();
    assert!(matches!(find(&table, "GET", "/_matrix/client/versions", ""), RuleMatch::Rule(_)));
    assert!(matches!(find(&table, "HEAD", "/_matrix/client/versions", ""), RuleMatch::Rule(_)));
    assert!(matches!(
        find(&table, "POST", "/_matrix/client/versions", ""),
        RuleMatch::WrongMethod(_)
    ));
    assert!(matches!(
        find(&table, "BREW", "/_matrix/client/versions", ""),
        RuleMatch::WrongMethod(_)
    ));
    assert!(matches!(find(&table, "GET", "/_matrix/client/versionsX", ""), RuleMatch::Nothing));
    assert!(matches!(find(&table, "GET", "", ""), RuleMatch::Nothing));
}

#[test]
fn query_and_header_conditions_choose_between_rules() {
    let text = r#"
pools: { a: { balance: single } }
routes:
  - { match: "^/s$", unless_query: [since], pool: a }
  - { match: "^/s$", if_query: ["full=true"], pool: a }
  - { match: "^/s$", if_header: ["x-lab=1"], pool: a }
  - { match: "^/s$", pool: a }
"#;
    let table = Table::compile(Config::parse("t", text).unwrap().routes).unwrap();
    assert_eq!(find(&table, "GET", "/s", "").index(), Some(0));
    assert_eq!(find(&table, "GET", "/s", "since").index(), Some(3));
    assert_eq!(find(&table, "GET", "/s", "a=b&since=1&full=true").index(), Some(1));
    assert_eq!(find(&table, "GET", "/s", "since=1&full=false").index(), Some(3));
    let asked = RequestFacts {
        method: Method::Get,
        path: "/s",
        query: "since=1",
        header: &|name| (name == "x-lab").then_some(b"1".as_slice()),
    };
    assert_eq!(table.find(&asked).index(), Some(2));
}

#[test]
fn what_a_client_writes_into_a_path_does_not_choose_the_pool() {
    let (config, table) = bundled();
    let pool = |method: &str, path: &str| match find(&table, method, path, "") {
        RuleMatch::Rule(Route { target: Target::Pool(place), .. }) => {
            config.pools[*place].name.clone()
        }
        _ => "nothing".to_owned(),
    };
    let send = "/_matrix/client/v3/rooms/!r:h/send/m.room.message/";
    for txn in ["typing", "receipt", "sync", "%2Ftyping%2F", "..%2Ftyping", "redact", "state"] {
        assert_eq!(pool("PUT", &format!("{send}{txn}")), "rooms");
    }
    assert_eq!(pool("PUT", "/_matrix/client/v3/rooms/!r:h/send/m.typing/typing/x"), "nothing");
    assert_eq!(pool("PUT", "/_matrix/client/v3/rooms/!r:h/../sync"), "nothing");
    assert_eq!(pool("GET", "/%5Fmatrix/client/versions"), "nothing");
    assert_eq!(pool("GET", "/_synapse/replication/x"), "nothing");
}

#[test]
fn segments_are_found_from_either_end() {
    let (config, table) = bundled();
    let room = |path: &str| {
        let index = find(&table, "GET", path, "").index().unwrap();
        config.routes[index].pattern.room.unwrap().cut(path).unwrap().to_owned()
    };
    assert_eq!(room("/_matrix/client/v3/rooms/!r:h/state/m.room.name/"), "!r:h");
    assert_eq!(room("/_matrix/client/v3/rooms/!r:h/state/m.room.name"), "!r:h");
    assert_eq!(room("/_matrix/client/api/v1/rooms/!r:h/state/m.room.name/x"), "!r:h");
    assert_eq!(room("/_matrix/client/api/v1/rooms/!r:h/messages"), "!r:h");
    assert_eq!(room("/_matrix/client/v3/rooms/!r%3Ah/messages"), "!r%3Ah");
}

#[test]
fn exploding_patterns_are_refused_not_compiled() {
    let text = r#"
pools: { a: { balance: single } }
routes: [{ match: "^/(a|b)*a(a|b){60}$", pool: a }]
"#;
    let routes = Config::parse("t", text).unwrap().routes;
    assert!(Table::compile(routes).is_err());
}

/// Paths near the real ones: pieces of them, put together with some noise.
fn near_paths() -> impl Strategy<Value = String> {
    let pieces: Vec<String> = {
        let segments = ENDPOINTS.lines().filter_map(|line| line.split('\t').nth(1));
        let mut pieces: Vec<String> =
            segments.flat_map(|path| path.split('/').map(str::to_owned)).collect();
        pieces.extend(["", "api", "!r:h", "%2F", "..", "typing", "é"].map(str::to_owned));
        pieces.sort();
        pieces.dedup();
        pieces
    };
    let templates: Vec<String> =
        ENDPOINTS.lines().filter_map(|l| l.split('\t').nth(1)).map(str::to_owned).collect();
    let walk = proptest::collection::vec(proptest::sample::select(pieces.clone()), 0..9)
        .prop_map(|segments| format!("/{}", segments.join("/")));
    let edited = (
        proptest::sample::select(templates),
        any::<proptest::sample::Index>(),
        proptest::sample::select(pieces),
        0..4,
    )
        .prop_map(|(template, at, piece, edit)| {
            let mut segments: Vec<&str> = template.split('/').collect();
            let at = at.index(segments.len());
            match edit {
                0 => segments[at] = &piece,
                1 => segments.insert(at, &piece),
                2 => drop(segments.remove(at)),
                _ => {}
            }
            segments.join("/")
        });
    prop_oneof![walk, edited]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_matcher_equals_the_naive_one(
        paths in proptest::collection::vec(near_paths(), 1..8),
        method in proptest::sample::select(Method::EACH.to_vec()),
        query in proptest::sample::select(vec!["", "since=s1", "a=b&since", "full_state=true"]),
    ) {
        thread_local! {
            static BOTH: (Table, Naive) = {
                let (config, table) = bundled();
                let naive = Naive::new(&config);
                (table, naive)
            };
        }
        BOTH.with(|(table, naive)| {
            for path in &paths {
                let found = table.find(&RequestFacts { method, path, query, header: &|_| None }).index();
                prop_assert_eq!(found, naive.find(method, path, query), "{}", path);
            }
            Ok(())
        })?;
    }
}
