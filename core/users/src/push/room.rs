//! What a user's push rules say about one room, said about another.

use colonnade_model::ruma::{
    RoomId,
    push::{ConditionalPushRule, PushCondition, Ruleset, SimplePushRule},
};

/// The field of an event that names its room.
const ROOM_ID: &str = "room_id";
/// The rule that mutes everything, before all others.
const MASTER: &str = ".m.rule.master";

/// Adds to rules, for every rule about the room `from`, the same one about `to`: those of the kind
/// for rooms, and the user's own with a condition that asks for the room. A rule `to` has already
/// stays as it is.
pub(super) fn copy(rules: &mut Ruleset, from: &RoomId, to: &RoomId) {
    if let Some(rule) = rules.room.get(from.as_str()).cloned() {
        rules.room.insert(SimplePushRule { rule_id: to.to_owned(), ..rule });
    }
    for set in [&mut rules.override_, &mut rules.underride] {
        let about = |rule: &&ConditionalPushRule| !rule.default && asks_for(rule, from);
        let copies: Vec<_> = set.iter().filter(about).map(|rule| moved(rule, from, to)).collect();
        // Before the server's own, which would speak first else; the one that mutes all stays the first.
        let is_later = |rule: &ConditionalPushRule| rule.default && rule.rule_id != MASTER;
        for copy in copies {
            if set.get(copy.rule_id.as_str()).is_none() {
                let place = set.iter().position(is_later).unwrap_or(set.len());
                set.shift_insert(place, copy);
            }
        }
    }
}

fn asks_for(rule: &ConditionalPushRule, room: &RoomId) -> bool {
    rule.conditions.iter().any(|condition| names(condition, room))
}

fn names(condition: &PushCondition, room: &RoomId) -> bool {
    matches!(condition, PushCondition::EventMatch(data) if data.key == ROOM_ID && data.pattern == room.as_str())
}

fn moved(rule: &ConditionalPushRule, from: &RoomId, to: &RoomId) -> ConditionalPushRule {
    let mut moved = rule.clone();
    for condition in &mut moved.conditions {
        if names(condition, from)
            && let PushCondition::EventMatch(data) = condition
        {
            data.pattern = to.to_string();
        }
    }
    // Clients name such a rule after its room.
    moved.rule_id = match rule.rule_id.contains(from.as_str()) {
        true => rule.rule_id.replace(from.as_str(), to.as_str()),
        false => format!("{}_{to}", rule.rule_id),
    };
    moved
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::{push::Action, room_id, user_id};
    use serde_json::{Value, json};

    use super::*;

    /// A user's own rule with a condition on the room.
    fn own(id: &str, room: &str) -> ConditionalPushRule {
        let condition = json!({ "kind": "event_match", "key": "room_id", "pattern": room });
        let rule: Value = json!({
            "rule_id": id, "default": false, "enabled": true, "actions": [], "conditions": [condition],
        });
        serde_json::from_value(rule).unwrap()
    }

    fn ids(set: &[ConditionalPushRule]) -> Vec<&str> {
        set.iter().map(|rule| rule.rule_id.as_str()).collect()
    }

    fn copied(mut rules: Ruleset) -> Ruleset {
        copy(&mut rules, room_id!("!old:a"), room_id!("!new:a"));
        rules
    }

    #[test]
    fn a_muted_room_stays_muted_before_the_rules_of_the_server() {
        let mut rules = Ruleset::server_default(user_id!("@a:a"));
        rules.override_.shift_insert(1, own("!old:a", "!old:a"));
        let rules = copied(rules);
        let order: Vec<_> = rules.override_.iter().cloned().collect();
        assert_eq!(ids(&order)[..3], [".m.rule.master", "!old:a", "!new:a"]);
        assert!(order[3..].iter().all(|rule| rule.default), "nothing else is the user's");
    }

    #[test]
    fn a_rule_that_is_there_already_stays() {
        let mut rules = Ruleset::new();
        for (room, actions) in [("!old:a", vec![Action::Notify]), ("!new:a", Vec::new())] {
            let rule_id = room.try_into().unwrap();
            let rule = SimplePushRule { actions, default: false, enabled: true, rule_id };
            rules.room.insert(rule);
        }
        rules.underride.insert(own("!old:a", "!old:a"));
        rules.underride.insert(own("!new:a", "!x:a"));
        let rules = copied(rules);
        assert_eq!(rules.room.get("!new:a").unwrap().actions.len(), 0);
        assert_eq!((rules.room.len(), rules.underride.len()), (2, 2));
        assert!(names(&rules.underride.get("!new:a").unwrap().conditions[0], room_id!("!x:a")));
    }

    #[test]
    fn only_rules_about_the_room_are_said_of_the_other() {
        let mut rules = Ruleset::new();
        for (id, room) in [("mine", "!old:a"), ("other", "!x:a"), ("of !old:a", "!old:a")] {
            rules.underride.insert(own(id, room));
        }
        let rules = copied(rules);
        let order: Vec<_> = rules.underride.iter().cloned().collect();
        assert_eq!(ids(&order), ["mine", "other", "of !old:a", "mine_!new:a", "of !new:a"]);
        for id in ["mine_!new:a", "of !new:a"] {
            assert!(asks_for(rules.underride.get(id).unwrap(), room_id!("!new:a")), "{id}");
        }
    }
}
