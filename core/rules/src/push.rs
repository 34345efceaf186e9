//! Push rules: what an event means to each user (Matrix v1.19, client-server, §Push rules).
//!
//! An event is flattened once ([`Evaluator::new`]) and then asked about for each user. Most users
//! have the default rules, and to nearly all of those an event means the same: ask
//! [`Evaluator::class_zero`] once, and [`Evaluator::evaluate`] only for the users
//! [`named_users`] gives and for those with rules of their own.

mod polls;
mod stored;

use std::{
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use colonnade_model::ruma::{
    OwnedUserId, UInt, UserId,
    push::{
        Action, AnyPushRuleRef, FlattenedJson, PushConditionPowerLevelsCtx, PushConditionRoomCtx,
        Ruleset,
    },
    serde::{JsonObject, Raw},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::{ClientFormat, Event};

pub use stored::{read, render};

#[cfg(test)]
mod tests;

/// Stands for every user with the default rules who is not named by an event. No real user has
/// this id: `.invalid` names no server (RFC 2606).
const ANYBODY: &str = "@anybody:colonnade.invalid";

/// The default rules of [`ANYBODY`], made once.
static CLASS_ZERO: LazyLock<(OwnedUserId, Ruleset)> = LazyLock::new(|| {
    let user = UserId::parse(ANYBODY).expect("a constant that the tests parse");
    let rules = server_default(&user);
    (user, rules)
});

/// The rules a user has who never changed any.
pub fn server_default(user: &UserId) -> Ruleset {
    let mut rules = Ruleset::server_default(user);
    polls::add(&mut rules);
    rules
}

/// What an event means to a user, as it is counted and stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PushOutcome {
    /// Nothing.
    #[default]
    Nothing = 0,
    /// It notifies.
    Notify = 1,
    /// It notifies, and is highlighted.
    Highlight = 2,
}

impl PushOutcome {
    /// Says whether it notifies.
    pub fn notifies(self) -> bool {
        self >= Self::Notify
    }

    /// Says whether it is highlighted.
    pub fn highlights(self) -> bool {
        self == Self::Highlight
    }
}

impl From<PushOutcome> for i64 {
    fn from(outcome: PushOutcome) -> Self {
        outcome as Self
    }
}

impl From<i64> for PushOutcome {
    fn from(stored: i64) -> Self {
        match stored {
            ..=0 => Self::Nothing,
            1 => Self::Notify,
            _ => Self::Highlight,
        }
    }
}

/// What an event means to a user.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The actions of the rule that matched; none if no rule did.
    pub actions: &'a [Action],
}

impl Outcome<'_> {
    /// Returns how the event is counted; a highlight that does not notify is no highlight.
    pub fn counted(&self) -> PushOutcome {
        match (self.notify(), self.highlight()) {
            (false, false) => PushOutcome::Nothing,
            (true, true) => PushOutcome::Highlight,
            _ => PushOutcome::Notify,
        }
    }

    /// Tells whether it counts as a notification.
    pub fn notify(&self) -> bool {
        self.actions.iter().any(Action::should_notify)
    }

    /// Tells whether it counts as a highlight; only notifications do.
    pub fn highlight(&self) -> bool {
        self.notify() && self.actions.iter().any(Action::is_highlight)
    }

    /// Returns the sound to play, by its name in the protocol.
    pub fn sound(&self) -> Option<String> {
        let sound = self.actions.iter().find_map(Action::sound)?;
        serde_json::to_value(sound).ok()?.as_str().map(str::to_owned)
    }
}

/// One event, ready to be asked about.
#[derive(Debug)]
pub struct Evaluator {
    event: FlattenedJson,
    room: PushConditionRoomCtx,
}

impl Evaluator {
    /// Flattens the event.
    ///
    /// `member_count` is the number of joined members after the event; `power_levels` those
    /// before it, from [`PowerLevels::for_push`](crate::power::PowerLevels::for_push). Without
    /// them nobody can notify the whole room.
    pub fn new(
        event: &Event,
        member_count: u64,
        power_levels: Option<PushConditionPowerLevelsCtx>,
    ) -> Self {
        let mut json = event.to_client(ClientFormat::WithRoom, None);
        // ruma takes it for granted that JSON can be read, which a damaged row may break.
        if serde_json::from_str::<JsonObject>(json.get()).is_err() {
            json = RawValue::NULL.to_owned();
        }
        let raw: Raw<JsonObject> = Raw::from_json(json);
        let count = UInt::try_from(member_count).unwrap_or(UInt::MAX);
        let (anybody, _) = &*CLASS_ZERO;
        let room_id = event.room_id().to_owned();
        let mut room = PushConditionRoomCtx::new(room_id, count, anybody.clone(), String::new());
        room.power_levels = power_levels;
        Self { event: FlattenedJson::from_raw(&raw), room }
    }

    /// Asks what the event means to a user with the default rules whom it does not name (see
    /// [`named_users`]) and who did not send it.
    pub fn class_zero(&mut self) -> Outcome<'static> {
        let (anybody, rules) = &*CLASS_ZERO;
        self.evaluate(anybody, "", rules)
    }

    /// Asks what the event means to a user. To its sender it means nothing.
    ///
    /// `display_name` is the user's name in the room, or their localpart if they have none.
    pub fn evaluate<'r>(
        &mut self,
        user: &UserId,
        display_name: &str,
        rules: &'r Ruleset,
    ) -> Outcome<'r> {
        if self.room.user_id != user {
            self.room.user_id = user.to_owned();
        }
        if self.room.user_display_name != display_name {
            display_name.clone_into(&mut self.room.user_display_name);
        }
        let matched = rules.iter().find(|rule| applies(*rule, &self.event, &self.room));
        Outcome { actions: matched.map_or(&[], |rule| rule.actions()) }
    }
}

/// Runs ruma's asynchronous function, which never waits: the one condition that might is not
/// compiled in.
fn applies(rule: AnyPushRuleRef<'_>, event: &FlattenedJson, room: &PushConditionRoomCtx) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(rule.applies(event, room)).poll(&mut context) {
        Poll::Ready(applies) => applies,
        Poll::Pending => {
            debug_assert!(false, "a push condition waits");
            false
        }
    }
}

/// Returns the users to whom the default rules give an event another meaning than to everybody:
/// those it mentions, and whom it invites. Each once, at most [`NAMED_USERS_MAX`].
pub fn named_users(event: &Event) -> Vec<OwnedUserId> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(rename = "m.mentions", default)]
        mentions: Mentions,
    }
    #[derive(Default, Deserialize)]
    struct Mentions {
        #[serde(default)]
        user_ids: Vec<serde_json::Value>,
    }
    let mentions = event.content_as::<Content>().map(|content| content.mentions);
    let mentioned = mentions.unwrap_or_default().user_ids;
    let mut users: Vec<OwnedUserId> = mentioned
        .iter()
        .filter_map(|user| UserId::parse(user.as_str()?).ok())
        .chain(event.state_key().and_then(|user| UserId::parse(user).ok()))
        .filter(|user| user != event.sender())
        .collect();
    users.sort();
    users.dedup();
    users.truncate(NAMED_USERS_MAX);
    users
}

/// The most users one event can single out. An event of 64 kB has room for some thousands; to
/// evaluate rules for each would let one sender make every worker busy.
pub const NAMED_USERS_MAX: usize = 1_000;
