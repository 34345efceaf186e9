//! Push rules for polls, by the names of before they were specified. They stand after those of messages, which they
//! follow: a poll begins and ends as loudly as something is said, and a vote is silent.
//!
//! Source: MSC3930.

use colonnade_model::ruma::{
    UInt,
    push::{
        Action, ConditionalPushRule, ConditionalPushRuleInit, EventMatchConditionData,
        PushCondition, RoomMemberCountConditionData, RoomMemberCountIs, Ruleset, SoundTweakValue,
        Tweak,
    },
};

/// Adds the rules to those of a user.
pub(super) fn add(rules: &mut Ruleset) {
    rules.override_.insert(rule("poll_response", vec![is("response")], Vec::new()));
    let two = RoomMemberCountIs::from(UInt::from(2_u8));
    let in_two = PushCondition::RoomMemberCount(RoomMemberCountConditionData::new(two));
    let loud = || vec![Action::Notify, Action::SetTweak(Tweak::Sound(SoundTweakValue::Default))];
    for event in ["start", "end"] {
        let alone = format!("poll_{event}_one_to_one");
        rules.underride.insert(rule(&alone, vec![in_two.clone(), is(event)], loud()));
        let anywhere = format!("poll_{event}");
        rules.underride.insert(rule(&anywhere, vec![is(event)], vec![Action::Notify]));
    }
}

fn is(event: &str) -> PushCondition {
    let pattern = format!("org.matrix.msc3381.poll.{event}");
    PushCondition::EventMatch(EventMatchConditionData::new("type".to_owned(), pattern))
}

fn rule(name: &str, conditions: Vec<PushCondition>, actions: Vec<Action>) -> ConditionalPushRule {
    let rule_id = format!(".org.matrix.msc3930.rule.{name}");
    ConditionalPushRuleInit { actions, default: true, enabled: true, rule_id, conditions }.into()
}
