//! Placing rules among others, reading stored rules, and which gateways are accepted.

use colonnade_model::ruma::{
    push::{NewConditionalPushRule, NewPatternedPushRule, NewSimplePushRule},
    user_id,
};

use colonnade_rules::push::{read, server_default};

use super::*;
use crate::account_data::raw;

fn content_rules(ids: &[&str]) -> Ruleset {
    let mut rules = Ruleset::default();
    for id in ids.iter().rev() {
        let rule = NewPatternedPushRule::new((*id).to_owned(), (*id).to_owned(), Vec::new());
        rules.insert(NewPushRule::Content(rule), None, None).unwrap();
    }
    rules
}

fn order(rules: &Ruleset) -> String {
    rules.content.iter().map(|rule| rule.rule_id.as_str()).collect()
}

#[test]
fn every_place_among_four_rules_can_be_reached() {
    let all = ["a", "b", "c", "d"];
    for moved in all {
        for other in all.into_iter().filter(|other| *other != moved) {
            let rest: String = all.into_iter().filter(|id| *id != moved).collect();
            let at = rest.find(other).unwrap();
            let mut before = rest.clone();
            before.insert_str(at, moved);
            let mut after = rest.clone();
            after.insert_str(at + 1, moved);
            let mut rules = content_rules(&all);
            place(&mut rules, &RuleKind::Content, moved, None, Some(other)).unwrap();
            assert_eq!(order(&rules), before);
            let mut rules = content_rules(&all);
            place(&mut rules, &RuleKind::Content, moved, Some(other), None).unwrap();
            assert_eq!(order(&rules), after);
        }
    }
}

#[test]
fn places_that_do_not_exist_are_refused() {
    let mut rules = content_rules(&["a", "b", "c"]);
    for (after, before) in [
        (Some("x"), None),
        (None, Some("x")),
        (Some("a"), None),
        (Some(".m.rule.master"), None),
        (Some("c"), Some("b")),
    ] {
        assert!(place(&mut rules, &RuleKind::Content, "a", after, before).is_err());
    }
    assert_eq!(order(&rules), "abc");
}

#[test]
fn stored_rules_meet_newer_defaults() {
    let alice = user_id!("@alice:localhost");
    let mut rules = server_default(alice);
    let own = NewConditionalPushRule::new("own".to_owned(), Vec::new(), Vec::new());
    rules.insert(NewPushRule::Override(own), None, None).unwrap();
    rules.set_enabled(RuleKind::Override, ".m.rule.suppress_notices", false).unwrap();
    rules.override_.shift_remove(".m.rule.reaction");
    let room = NewSimplePushRule::new("!a:b.c".try_into().unwrap(), Vec::new());
    rules.insert(NewPushRule::Room(room), None, None).unwrap();
    let body = raw(&json!({ "global": render(&rules).unwrap() })).unwrap();
    let again = read(alice, Some(&body));
    assert!(again.get(RuleKind::Override, ".m.rule.reaction").is_some());
    assert!(again.get(RuleKind::Override, "own").is_some());
    assert!(!again.get(RuleKind::Override, ".m.rule.suppress_notices").unwrap().enabled());
    assert_eq!(again.override_.get_index(0).unwrap().rule_id, ".m.rule.master");
    let broken = raw(&json!({ "global": { "override": 7 } })).unwrap();
    assert_eq!(count(&read(alice, Some(&broken))), count(&server_default(alice)));
}

#[test]
fn every_kind_is_rendered() {
    let rendered = render(&Ruleset::default()).unwrap();
    assert_eq!(rendered.as_object().unwrap().len(), 5);
}

#[test]
fn a_gateway_has_the_path_of_one() {
    assert!(require_gateway("https://push.example.org/_matrix/push/v1/notify").is_ok());
    assert!(require_gateway("http://127.0.0.1:1/_matrix/push/v1/notify?x=1").is_ok());
    for wrong in ["", "https://a", "ftp://a/_matrix/push/v1/notify", "https://a/_matrix/push/v1"] {
        assert!(require_gateway(wrong).is_err(), "{wrong}");
    }
}
