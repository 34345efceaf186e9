//! Whom a new event of a room may mean something of its own to, and the power levels that decide on it.

use std::sync::Arc;

use colonnade_model::{
    nid::{EventNid, UserNid},
    ruma::{OwnedUserId, push::Ruleset},
};
use colonnade_rules::{power::PowerLevels, push::server_default};

/// A member to whom an event may mean something of its own.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) user: UserNid,
    pub(super) user_id: OwnedUserId,
    pub(super) name: String,
    pub(super) rules: Arc<Ruleset>,
}

impl Candidate {
    pub(super) fn with_defaults(user: UserNid, user_id: OwnedUserId, name: String) -> Self {
        let rules = Arc::new(server_default(&user_id));
        Self { user, user_id, name, rules }
    }
}

/// The power levels read last, with the events they were read from.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels(pub(super) Option<(Option<EventNid>, Arc<PowerLevels>)>);
