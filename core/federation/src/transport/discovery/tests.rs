//! The steps of the specification that need no network, and how long a file is good for.

use colonnade_model::ruma::OwnedServerName;
use http::{HeaderMap, HeaderValue};

use super::{well_known::kept_ms, *};

fn named(name: &str) -> OwnedServerName {
    OwnedServerName::try_from(name).unwrap()
}

#[test]
fn names_that_say_all_need_nothing_else() {
    let at = |target: &str| Target::Address(target.parse().unwrap());
    let host = |host: &str, port| Target::Host(host.to_owned(), port);
    for (name, tls, target) in [
        ("1.2.3.4", "1.2.3.4", at("1.2.3.4:8448")),
        ("1.2.3.4:80", "1.2.3.4", at("1.2.3.4:80")),
        ("[2001:db8::1]", "2001:db8::1", at("[2001:db8::1]:8448")),
        ("[2001:db8::1]:80", "2001:db8::1", at("[2001:db8::1]:80")),
        ("a.example:80", "a.example", host("a.example", 80)),
    ] {
        let route = fixed(&named(name)).unwrap();
        assert_eq!(route.host, name);
        assert_eq!(route.name, TlsName::try_from(tls).unwrap(), "{name}");
        assert_eq!(route.target, target, "{name}");
    }
    assert_eq!(fixed(&named("a.example")), None);
}

#[test]
fn a_name_alone_is_looked_for_by_its_records_and_at_the_default_port() {
    let ServerAddress { host, name, target } = by_service(&named("a.example")).unwrap();
    assert_eq!((host.as_str(), name), ("a.example", TlsName::try_from("a.example").unwrap()));
    let names = ["_matrix-fed._tcp.a.example", "_matrix._tcp.a.example"].map(str::to_owned);
    assert_eq!(target, Target::Service { names, host: "a.example".to_owned(), port: 8448 });
}

#[test]
fn a_file_is_kept_as_long_as_it_says_within_bounds() {
    const MINUTE: i64 = 60_000;
    let kept = |headers: &[(&'static str, &'static str)]| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        kept_ms(&map, 784_111_777_000) / MINUTE
    };
    assert_eq!(kept(&[]), 24 * 60);
    assert_eq!(kept(&[("cache-control", "public, max-age=3600")]), 60);
    assert_eq!(kept(&[("cache-control", "Max-Age=\"7200\"")]), 120);
    assert_eq!(kept(&[("cache-control", "max-age=1")]), 5);
    assert_eq!(kept(&[("cache-control", "max-age=99999999999999999")]), 48 * 60);
    assert_eq!(kept(&[("cache-control", "max-age=nonsense")]), 24 * 60);
    assert_eq!(kept(&[("cache-control", "max-age=3600"), ("cache-control", "no-store")]), 5);
    let hour_later = ("expires", "Sun, 06 Nov 1994 09:49:37 GMT");
    assert_eq!(kept(&[hour_later]), 60);
    assert_eq!(kept(&[hour_later, ("cache-control", "max-age=7200")]), 120);
    assert_eq!(kept(&[("expires", "Sun, 06 Nov 1994 07:49:37 GMT")]), 5);
    assert_eq!(kept(&[("expires", "0")]), 24 * 60);
}

#[test]
fn a_well_known_file_names_one_server() {
    let read = |text: &str| read_well_known(text.as_bytes()).map(|name| name.to_string());
    assert_eq!(read("{\"m.server\":\"b.example:1\",\"x\":2}").as_deref(), Some("b.example:1"));
    for wrong in
        ["", "{}", "[]", "{\"m.server\":1}", "{\"m.server\":\"\"}", "{\"m.server\":\"a/b\"}"]
    {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}
