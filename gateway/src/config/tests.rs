//! What a routes file may say, and what is answered when it says something else.

use super::units::{ByteSize, Span};
use super::*;
use crate::routing::routes::KeyKind;
use std::time::Duration;

/// A file that is right, to be made wrong in one place each.
const RIGHT: &str = r#"
listen:
  - { name: public, bind: "127.0.0.1:0" }
pools:
  client: { balance: least_conn, workers: ["127.0.0.1:1"] }
  rooms: { balance: { hash: room }, workers: ["127.0.0.1:1", "127.0.0.1:2 weight=3"], bounded_load: 1.25 }
routes:
  - { match: "^/a/(?<room>[^/]+)$", methods: [GET], pool: rooms }
  - { match: "^/b$", pool: client }
"#;

fn fault(text: &str) -> String {
    Config::parse("routes.yaml", text).unwrap_err().to_string()
}

fn fault_with(from: &str, to: &str) -> String {
    assert!(RIGHT.contains(from));
    fault(&RIGHT.replacen(from, to, 1))
}

#[test]
fn a_right_file_is_read() {
    let config = Config::parse("routes.yaml", RIGHT).unwrap();
    assert_eq!(config.pools.len(), 2);
    assert_eq!(config.pools[1].workers[1].1, 3);
    assert_eq!(config.pools[1].bounded_load, Some(1.25));
    assert_eq!(config.routes[0].key, Some(KeyKind::Room));
    assert_eq!(config.routes[0].line, 8);
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn the_bundled_file_is_right() {
    let config = Config::bundled().unwrap();
    assert_eq!(config.pools.len(), 18);
    assert!(config.routes.len() > 150);
}

#[test]
fn faults_name_place_key_and_mend() {
    let cases = [
        (("methods", "metods"), "routes.yaml:8:", "metods", "did you mean `methods`?"),
        (("least_conn", "least_con"), "routes.yaml:5:", "least_con", "did you mean `least_conn`?"),
        (("[GET]", "[GETT]"), "routes.yaml:8:", "`GETT`", "did you mean `GET`?"),
        (("pool: rooms", "pool: room"), "routes.yaml:8:", "`room`", "did you mean `rooms`?"),
        (("\"^/b$\"", "\"/b$\""), "routes.yaml:9:", "middle of a path", "begin it with ^"),
        (("\"^/b$\"", "\"^/b\""), "routes.yaml:9:", "longer path", "end it with $"),
        (("\"^/b$\"", "\"^/b|/c$\""), "routes.yaml:9:", "middle of a path", "begin it with ^"),
        (("\"^/b$\"", "\"^/b($\""), "routes.yaml:9:", "no regular expression", "unclosed group"),
        (("?<room>", "?<rom>"), "routes.yaml:8:", "`rom`", "room and user"),
        (("(?<room>[^/]+)", "x(?<room>[^/]+)"), "routes.yaml:8:", "not a segment", "whole path"),
        (("(?<room>[^/]+)", "[^/]+"), "routes.yaml:8:", "no segment is named", "another `key`"),
        (("\"127.0.0.1:2 weight=3\"", "\"127.0.0.1\""), "routes.yaml:6:", "not an address", ""),
        (("weight=3", "wait=3"), "routes.yaml:6:", "`wait=3`", "weight=1 to 100"),
        (("127.0.0.1:2", "127.0.0.1:1"), "routes.yaml:6:", "stands twice", "weight=2"),
        (("1.25", "0.5"), "routes.yaml:6:", "not a share above 1", "1.25"),
        (("pool: client }", "}"), "routes.yaml:9:", "neither", "pool: <name>"),
    ];
    for ((from, to), place, problem, mend) in cases {
        let said = fault_with(from, to);
        for part in [place, problem, mend] {
            assert!(said.contains(part), "{from} → {to}: {part:?} is not in {said:?}");
        }
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let text = RIGHT.replace("[GET]", "[GETT]").replace("pool: client }", "pool: cliend }");
    let Err(ConfigError::Faults(faults)) = Config::parse("routes.yaml", &text) else { panic!() };
    assert_eq!(faults.len(), 2);
}

#[test]
fn the_admin_listener_stays_on_loopback() {
    let said = fault(&format!("admin: \"0.0.0.0:8009\"\n{}", &RIGHT[1..]));
    assert!(said.contains("reachable from other machines"), "{said}");
}

#[test]
fn limits_are_read() {
    let text = format!(
        "{RIGHT}\nlimits: {{ header_bytes: 8KiB, header_timeout: 250ms, connections: 7 }}\n"
    );
    let limits = Config::parse("routes.yaml", &text).unwrap().limits;
    assert_eq!(limits.header_bytes, 8192);
    assert_eq!(limits.header_timeout, Duration::from_millis(250));
    assert_eq!(limits.connections, 7);
    let said = fault(&text.replace("8KiB", "8 bytes"));
    assert!(said.contains("64KiB or 100MiB"), "{said}");
}

#[test]
fn overrides_replace_what_the_file_says() {
    let listen = "127.0.0.1:4000".parse().unwrap();
    let worker: WorkerAddr = "unix:/run/w.sock".parse().unwrap();
    let config = Config::parse("routes.yaml", RIGHT).unwrap().with(&Overrides {
        listen: Some(vec![listen]),
        workers_for_all_pools: Some(vec![worker.clone()]),
        admin: Some("127.0.0.1:4001".parse().unwrap()),
        no_admin: false,
        ..Overrides::default()
    });
    assert_eq!(config.listen[0].bind, Address::Tcp(listen));
    assert!(config.pools.iter().all(|pool| pool.workers == [(worker.clone(), 1)]));
    assert_eq!(config.admin.unwrap().port(), 4001);
}

#[test]
fn overrides_keep_what_is_encrypted_and_add_to_it() {
    let text = RIGHT.replacen(
        "listen:\n",
        "listen:\n  - { name: tls, bind: \"127.0.0.1:4443\", tls: { certificates: [{ cert: /c, key: /k }] } }\n",
        1,
    );
    assert_ne!(text, RIGHT);
    let (listen, federation) = ("127.0.0.1:4000", "127.0.0.1:8448");
    let tls = TlsConfig { certificates: vec![("/a".into(), "/b".into())], http2: true };
    let config = Config::parse("routes.yaml", &text).unwrap().with(&Overrides {
        listen: Some(vec![listen.parse().unwrap()]),
        listen_encrypted: vec![(federation.parse().unwrap(), tls.clone())],
        ..Overrides::default()
    });
    let found: Vec<_> =
        config.listen.iter().map(|at| (at.bind.to_string(), at.tls.is_some())).collect();
    let wanted = [(listen, false), ("127.0.0.1:4443", true), (federation, true)];
    assert_eq!(found, wanted.map(|(at, tls)| (at.to_owned(), tls)));
    assert_eq!(config.listen[2].tls, Some(tls));
}

#[test]
fn small_values_parse_or_say_what_they_expect() {
    assert_eq!("64KiB".parse::<ByteSize>().unwrap().0, 65_536);
    assert_eq!("1GiB".parse::<ByteSize>().unwrap().0, 1 << 30);
    assert!("99999999999GiB".parse::<ByteSize>().is_err());
    assert_eq!("5m".parse::<Span>().unwrap().0, Duration::from_secs(300));
    assert!("5".parse::<Span>().is_err());
    let range: IpRange = "10.0.0.0/8".parse().unwrap();
    assert!(range.contains("10.255.0.1".parse().unwrap()));
    assert!(range.contains("::ffff:10.1.1.1".parse().unwrap()));
    assert!(!range.contains("11.0.0.1".parse().unwrap()));
    let all: IpRange = "0.0.0.0/0".parse().unwrap();
    assert!(all.contains("1.2.3.4".parse().unwrap()));
    let one: IpRange = "::1".parse().unwrap();
    assert!(one.contains("::1".parse().unwrap()) && !one.contains("::2".parse().unwrap()));
    assert!("10.0.0.0/33".parse::<IpRange>().is_err());
}

#[test]
fn a_long_poll_gets_the_time_it_asks_for_and_some_more() {
    let limits = Limits {
        response_timeout: Duration::from_secs(10),
        long_poll_timeout: Duration::from_secs(60),
        ..Limits::default()
    };
    let seconds = |long_poll, query| limits.patience(long_poll, query).as_secs();
    assert_eq!(seconds(true, "since=s1&timeout=30000"), 40);
    assert_eq!(seconds(true, "timeout=0"), 10);
    assert_eq!(seconds(true, ""), 10);
    assert_eq!(seconds(true, "timeout=x"), 10);
    assert_eq!(seconds(true, "timeout=18446744073709551615"), 60);
    assert_eq!(seconds(false, "timeout=30000"), 10);
}
