//! Who the client is behind which proxies.

use super::*;

fn who(peer: &str, given: Option<&str>, proto: Option<&str>) -> (String, String, &'static str) {
    let text = "trusted_proxies: [\"10.0.0.0/8\", \"::1\"]\n\
        pools: { p: { balance: single } }\nroutes: [{ match: \"^/$\", pool: p }]";
    let config = Config::parse("t", text).unwrap();
    let client = client(&config, peer.parse().unwrap(), false, given, proto);
    (client.ip.to_string(), client.forwarded_for, client.proto)
}

#[test]
fn untrusted_peers_are_not_believed() {
    let (ip, chain, proto) = who("203.0.113.9", Some("1.1.1.1"), Some("https"));
    assert_eq!((ip.as_str(), chain.as_str(), proto), ("203.0.113.9", "203.0.113.9", "http"));
}

#[test]
fn the_client_is_the_nearest_address_no_trusted_proxy_has() {
    let (ip, chain, proto) = who("10.0.0.1", Some("6.6.6.6, 203.0.113.9,10.2.2.2"), Some("https"));
    assert_eq!(ip, "203.0.113.9");
    assert_eq!(chain, "6.6.6.6, 203.0.113.9, 10.2.2.2, 10.0.0.1");
    assert_eq!(proto, "https");
}

#[test]
fn only_trusted_hops_leave_the_farthest() {
    assert_eq!(who("10.0.0.1", Some("10.9.9.9, 10.2.2.2"), None).0, "10.9.9.9");
    assert_eq!(who("10.0.0.1", None, None).0, "10.0.0.1");
}

#[test]
fn what_is_no_address_ends_the_chain() {
    let (ip, chain, _) = who("10.0.0.1", Some("1.1.1.1, evil\r\nx: y, 203.0.113.9:44"), None);
    assert_eq!((ip.as_str(), chain.as_str()), ("203.0.113.9", "203.0.113.9, 10.0.0.1"));
    let (ip, ..) = who("::ffff:10.0.0.1", Some("[2001:db8::1]:443"), Some("gopher"));
    assert_eq!(ip, "2001:db8::1");
}

#[test]
fn endless_chains_are_cut() {
    let given = vec!["10.1.1.1"; 500].join(",");
    let (_, chain, _) = who("10.0.0.1", Some(&given), None);
    assert_eq!(chain.split(", ").count(), HOPS_MAX + 1);
}

#[test]
fn request_ids_are_plain() {
    assert!(is_request_id("a-1_B.2"));
    for bad in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
        assert!(!is_request_id(bad), "{bad}");
    }
}
