//! Whom a new event of a room may mean something of its own to, and the power levels that decide on it.

use std::sync::Arc;

use colonnade_model::{
    nid::{EventNid, UserNid},
    ruma::{OwnedUserId, push::Ruleset},
};
use colonnade_rules::{power::PowerLevels, push::server_default};

/// A member to whom an event may mean something of its own.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) user: UserNid,
    pub(crate) user_id: OwnedUserId,
    pub(crate) name: String,
    pub(crate) rules: Arc<Ruleset>,
}

impl Candidate {
    pub(crate) fn with_defaults(user: UserNid, user_id: OwnedUserId, name: String) -> Self {
        let rules = Arc::new(server_default(&user_id));
        Self { user, user_id, name, rules }
    }
}

/// The power levels read last, with the events they were read from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Levels(pub(crate) Option<(Option<EventNid>, Arc<PowerLevels>)>);
