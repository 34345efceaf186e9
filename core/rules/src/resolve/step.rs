//! What a resolution asks for, and what comes out of it, whichever algorithm it is.

use std::collections::BTreeMap;

use colonnade_model::ruma::OwnedEventId;

use crate::auth::StateKey;

/// What each fork has under the keys on which not all forks agree: key by key the events of
/// exactly one fork. A key a fork does not have is simply absent.
pub type ForkEntries = BTreeMap<StateKey, OwnedEventId>;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// Load these events and give them to [`super::Resolver::add_events`].
    Events(Vec<OwnedEventId>),
    /// Give [`super::Resolver::add_newer`] the unconflicted events that may reach one of these.
    Newer(Vec<OwnedEventId>),
    /// Give [`super::Resolver::add_keys`] the unconflicted events that hold these keys.
    Keys(Vec<StateKey>),
    /// The result.
    Done(Resolution),
}

/// How to get from any one of the forks to the resolved state: set each key to its event, or
/// remove it. Contains every conflicted key, and rarely a key that no fork has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolution {
    /// The resolved keys.
    pub keys: BTreeMap<StateKey, Option<OwnedEventId>>,
}

/// Why a state cannot be resolved.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The events contradict what any server would have accepted.
    #[error("cannot resolve state: {0}")]
    Events(String),
}
