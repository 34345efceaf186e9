//! Tokens of a hierarchy.

use colonnade_testkit_rooms::room_event;

use super::*;

#[test]
fn tokens_go_with_what_they_were_made_for() {
    assert_eq!(skipped(&token(7, 3, true), 3, true).unwrap(), 7);
    assert!(skipped(&token(7, 3, true), 3, false).is_err());
    assert!(skipped(&token(7, 3, true), 4, true).is_err());
    for wrong in ["", "h", "h_", "7_3_1", "h-1_3_1", "h99999999_3_1", "h1_3_1_", "hx_3_1"] {
        assert!(skipped(wrong, 3, true).is_err(), "{wrong}");
    }
}

fn child_of(key: &str, content: Value, suggested: bool) -> Option<Child> {
    child(&room_event(1, "m.space.child", Some(key), content), suggested).unwrap()
}

#[test]
fn a_child_has_a_room_and_servers_that_know_it() {
    let via = json!({ "via": ["a"] });
    assert!(child_of("!a:b", via.clone(), false).is_some());
    for (key, content) in [
        ("!a:b", json!({})),
        ("!a:b", json!({ "via": [] })),
        ("!a:b", json!({ "via": "a" })),
        ("!a:b", json!({ "via": ["a", 5] })),
        ("", via.clone()),
        ("#a:b", via),
    ] {
        assert!(child_of(key, content.clone(), false).is_none(), "{key} {content}");
    }
}

#[test]
fn only_suggested_children_are_shown_where_that_is_asked() {
    for (suggested, expected) in
        [(json!(true), true), (json!(false), false), (json!("true"), false)]
    {
        let content = json!({ "via": ["a"], "suggested": suggested });
        assert_eq!(child_of("!a:b", content.clone(), true).is_some(), expected, "{content}");
        assert!(child_of("!a:b", content, false).is_some());
    }
    assert!(child_of("!a:b", json!({ "via": ["a"] }), true).is_none());
}

#[test]
fn an_order_is_short_and_printable_or_none() {
    let order = |order: Value| {
        child_of("!a:b", json!({ "via": ["a"], "order": order }), false).unwrap().order
    };
    assert_eq!(order(json!("a ~")).as_deref(), Some("a ~"));
    assert_eq!(order(json!("")).as_deref(), Some(""));
    let longest = "x".repeat(ORDER_LENGTH_MAX);
    assert_eq!(order(json!(longest)), Some(longest.clone()));
    for wrong in [json!(longest + "x"), json!("a\n"), json!("ä"), json!(5), json!("\u{7f}")] {
        assert_eq!(order(wrong.clone()), None, "{wrong}");
    }
}

#[test]
fn a_child_is_shown_without_what_only_the_room_knows() {
    let content = json!({ "via": ["a"], "suggested": true });
    let stripped = child_of("!a:b", content.clone(), false).unwrap().stripped;
    let stripped: Value = serde_json::from_str(stripped.json().get()).unwrap();
    let expected = json!({
        "type": "m.space.child", "state_key": "!a:b", "content": content,
        "sender": "@alice:localhost", "origin_server_ts": 1,
    });
    assert_eq!(stripped, expected);
}
