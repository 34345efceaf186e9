//! What a user's push rules say about one room, said about another.

use colonnade_model::ruma::{
    RoomId,
    push::{ConditionalPushRule, PushCondition, Ruleset, SimplePushRule},
};

/// The field of an event that names its room.
const ROOM_ID: &str = "room_id";

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
        set.extend(copies);
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
