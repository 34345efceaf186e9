//! Who is let in, list by list and server by server.

use colonnade_model::ruma::{RoomVersionId, ServerName};
use serde_json::{Value, json};

use super::ServerAcl;
use crate::sample::Room;

fn acl(content: Value) -> ServerAcl {
    let (mut room, state) = Room::new(RoomVersionId::V11);
    let event = room.make(&state, 5, "alice", "m.room.server_acl", Some(""), content);
    ServerAcl::read(Some(&event))
}

#[track_caller]
fn check(content: Value, allowed: &[&str], denied: &[&str]) {
    let acl = acl(content.clone());
    for (servers, expected) in [(allowed, true), (denied, false)] {
        for server in servers {
            let name = <&ServerName>::try_from(*server).unwrap();
            assert_eq!(acl.is_allowed(name), expected, "{server} by {content}");
        }
    }
}

#[test]
fn a_room_without_a_list_is_open() {
    let name = <&ServerName>::try_from("1.2.3.4:1").unwrap();
    assert!(ServerAcl::read(None).is_allowed(name));
}

#[test]
fn lists_are_asked_in_the_order_of_the_specification() {
    check(json!({ "allow": ["*"] }), &["a.example", "1.2.3.4", "[::1]"], &[]);
    check(json!({}), &[], &["a.example", "1.2.3.4", "[::1]"]);
    check(json!({ "deny": ["b.example"] }), &[], &["a.example", "b.example"]);
    check(json!({ "allow": ["*"], "deny": ["b.example"] }), &["a.example"], &["b.example"]);
    // A denied server is denied even where it is allowed by name.
    check(json!({ "allow": ["b.example"], "deny": ["*.example"] }), &[], &["b.example", "x"]);
    check(json!({ "allow": ["*.a.example"] }), &["x.a.example", "y.x.a.example"], &["a.example"]);
}

#[test]
fn ports_and_case_do_not_evade() {
    let deny = json!({ "allow": ["*"], "deny": ["Evil.Example", "[2001:DB8::1]", "1.2.3.4"] });
    check(
        deny,
        &["evil.example.org", "good.example:8448", "[2001:db8::2]"],
        &[
            "evil.example",
            "EVIL.example",
            "evil.EXAMPLE:8448",
            "evil.example:1",
            "[2001:db8::1]",
            "[2001:DB8::1]:8448",
            "1.2.3.4:99",
        ],
    );
    check(
        json!({ "allow": ["GOOD.example"] }),
        &["good.EXAMPLE:1", "Good.Example"],
        &["x.example"],
    );
    // A pattern with a port matches nothing: ports are not compared.
    check(json!({ "allow": ["*"], "deny": ["evil.example:8448"] }), &["evil.example:8448"], &[]);
}

#[test]
fn patterns_have_two_wildcards_and_nothing_else() {
    check(
        json!({ "allow": ["a?c.example"] }),
        &["abc.example", "a-c.example", "ABC.example"],
        &["ac.example", "abbc.example", "xabc.example"],
    );
    check(json!({ "allow": ["*a*"] }), &["a", "ba", "ab.example", "xax"], &["b.com"]);
    check(json!({ "allow": ["***"] }), &["a"], &[]);
    check(json!({ "allow": [""] }), &[], &["a"]);
    check(
        json!({ "allow": ["a.example", "[ab].example", "(a|b).com"] }),
        &["a.example"],
        &["aXexample", "b.example", "b.com"],
    );
    let slow = "*a".repeat(2_000);
    check(json!({ "allow": [slow] }), &[], &[&"a".repeat(230)]);
}

#[test]
fn addresses_are_let_in_unless_it_says_no() {
    let addresses = ["1.2.3.4", "1.2.3.4:8448", "[::1]", "[2001:db8::1]:8448"];
    check(json!({ "allow": ["*"], "allow_ip_literals": true }), &addresses, &[]);
    check(json!({ "allow": ["*"], "allow_ip_literals": false }), &["a.example"], &addresses);
    // Allowed by name, and still an address.
    check(json!({ "allow": ["1.2.3.4"], "allow_ip_literals": false }), &[], &addresses);
    for nonsense in [json!("false"), json!(0), json!(null), json!([])] {
        check(json!({ "allow": ["*"], "allow_ip_literals": nonsense }), &addresses, &[]);
    }
    // Looks like one, and is a name.
    check(
        json!({ "allow": ["*"], "allow_ip_literals": false }),
        &["1.2.3.4.example", "1.2.3"],
        &[],
    );
}

#[test]
fn what_is_malformed_is_not_there() {
    for nonsense in [json!("*"), json!({ "0": "*" }), json!(null), json!(7)] {
        check(json!({ "allow": nonsense }), &[], &["a.example"]);
        check(json!({ "allow": ["*"], "deny": nonsense }), &["a.example"], &[]);
    }
    let mixed = json!({ "allow": [7, null, ["*"], "a.example"], "deny": [{}, "b.example"] });
    check(mixed, &["a.example"], &["b.example", "c.example"]);
}
