//! Whether an event is allowed: which state decides, and what it decides.
//!
//! The rules themselves are ruma's; this file gives them our event and one kind of error. A new
//! local event is checked once, by the state before it. An event from outside is checked three
//! times with [`check_by_state`]: by its own auth events, by the state before it (each rejects),
//! and by the current state (soft-fails) (Matrix v1.19, server-server, §Checks performed on
//! receipt of a PDU).

use std::sync::Arc;

use colonnade_model::ruma::{
    EventId, UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::AuthorizationRules,
    state_res::{
        auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules,
    },
};
use serde_json::value::RawValue;

use crate::event::Event;

#[cfg(test)]
mod tests;

/// The key of a state event: its type and state key.
pub type StateKey = (StateEventType, String);

/// An event is not allowed (`M_FORBIDDEN` for a local one).
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{rule}: {why}")]
pub struct Rejection {
    /// Which set of rules: `auth.selection`, `auth.events`, `auth.state`, `auth.power`.
    pub rule: &'static str,
    /// What was wrong, for a person. Contains nothing the sender does not know.
    pub why: String,
}

impl Rejection {
    pub(crate) fn by(rule: &'static str) -> impl FnOnce(String) -> Self {
        move |why| Self { rule, why }
    }
}

/// Returns the keys whose current events a new event names as its auth events (Matrix v1.19,
/// server-server, §Auth events selection). The create event is not among them where the room
/// version forbids it.
///
/// # Errors
/// [`Rejection`] when the content does not have the form the type demands.
pub fn auth_keys(
    event_type: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
    rules: &AuthorizationRules,
) -> Result<Vec<StateKey>, Rejection> {
    auth_types_for_event(event_type, sender, state_key, content, rules)
        .map_err(Rejection::by("auth.selection"))
}

/// Returns the keys of the state that [`check_by_state`] asks for: [`auth_keys`] and always the
/// create event. For a [`Draft`](crate::event::Draft) these are the auth events to give as well:
/// signing leaves out the create event where it must.
///
/// # Errors
/// [`Rejection`] when the content does not have the form the type demands.
pub fn state_keys_to_check(
    event_type: &TimelineEventType,
    sender: &UserId,
    state_key: Option<&str>,
    content: &RawValue,
    rules: &AuthorizationRules,
) -> Result<Vec<StateKey>, Rejection> {
    let mut keys = auth_keys(event_type, sender, state_key, content, rules)?;
    let create = (StateEventType::RoomCreate, String::new());
    if *event_type != TimelineEventType::RoomCreate && !keys.contains(&create) {
        keys.push(create);
    }
    Ok(keys)
}

/// Checks an event by the rules that need no state: a create event by itself, any other by the
/// list of its auth events. Once per event.
///
/// `fetch` finds an event by its id: the auth events, and where the room id is made from it the
/// create event.
///
/// # Errors
/// [`Rejection`]: the event must be rejected.
pub fn check_by_auth_events(
    event: &Event,
    rules: &AuthorizationRules,
    fetch: impl Fn(&EventId) -> Option<Arc<Event>>,
) -> Result<(), Rejection> {
    check_state_independent_auth_rules(rules, event, fetch).map_err(Rejection::by("auth.events"))
}

/// Checks an event by a state: all rules that [`check_by_auth_events`] does not check.
///
/// `state` finds the event with a key, for at least [`state_keys_to_check`].
///
/// # Errors
/// [`Rejection`]: the state does not allow the event.
pub fn check_by_state(
    event: &Event,
    rules: &AuthorizationRules,
    state: impl Fn(&StateEventType, &str) -> Option<Arc<Event>>,
) -> Result<(), Rejection> {
    check_state_dependent_auth_rules(rules, event, state).map_err(Rejection::by("auth.state"))
}
