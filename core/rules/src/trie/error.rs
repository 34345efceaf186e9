//! Why reading or changing a trie stops.

use colonnade_model::nid::StateNid;

/// Why a trie operation stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TrieError {
    /// Rows must be loaded first, all that can be known now, ascending and without duplicates.
    #[error("{} state rows are not loaded", .0.len())]
    Missing(Vec<StateNid>),
    /// A stored row contradicts the format.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A new state would refer to a state with a greater id, against invariant 2.
    #[error("new state {own} cannot refer to later state {target}")]
    Order {
        /// The state being made.
        own: StateNid,
        /// The state it would refer to.
        target: StateNid,
    },
}

/// A stored row contradicts the format.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("corrupt state row: {0}")]
pub struct Corrupt(pub(crate) &'static str);
