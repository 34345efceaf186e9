//! States before their commit.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::nid::StateNid;
use colonnade_rules::trie::{NewState, Row, State};

/// States that were made and are not committed yet: those of one request lie above those kept before it,
/// and are kept or dropped together.
#[derive(Debug, Default)]
pub struct Pending {
    kept: Made,
    added: Made,
}

#[derive(Debug, Default)]
struct Made {
    states: HashMap<StateNid, State>,
    rows: HashMap<StateNid, Arc<Row>>,
}

impl Pending {
    /// Adds a new state.
    pub fn add(&mut self, new: &NewState) {
        self.added.states.insert(new.nid, new.state);
        for row in &new.rows {
            self.added.rows.insert(row.row.state, Arc::clone(&row.row));
        }
    }

    /// Keeps what was added.
    pub fn keep(&mut self) {
        self.kept.states.extend(self.added.states.drain());
        self.kept.rows.extend(self.added.rows.drain());
    }

    /// Drops what was added and not kept.
    pub fn drop_added(&mut self) {
        self.added = Made::default();
    }

    pub(super) fn state(&self, nid: StateNid) -> Option<State> {
        self.added.states.get(&nid).or_else(|| self.kept.states.get(&nid)).copied()
    }

    pub(super) fn row(&self, nid: StateNid) -> Option<&Arc<Row>> {
        self.added.rows.get(&nid).or_else(|| self.kept.rows.get(&nid))
    }
}
