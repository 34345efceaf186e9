//! Rows held in memory for the length of one operation.

use std::{collections::HashMap, sync::Arc};

use super::{Corrupt, Node, NodeRef, Nodes, Row};
use colonnade_model::nid::StateNid;

/// Decoded rows, over another source (a cache) that is asked first.
///
/// Keeps the promise [`Nodes`] asks for even if the cache below evicts: what was loaded for an
/// operation stays until this is dropped.
#[derive(Debug)]
pub struct LoadedRows<C = NoNodes> {
    cache: C,
    rows: HashMap<StateNid, Arc<Row>>,
}

impl Default for LoadedRows {
    fn default() -> Self {
        Self::over(NoNodes)
    }
}

/// A source with nothing in it.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNodes;

impl Nodes for NoNodes {
    fn node(&self, _: NodeRef) -> Option<Arc<Node>> {
        None
    }
}

impl<C: Nodes> LoadedRows<C> {
    /// Starts with nothing loaded over the cache.
    pub fn over(cache: C) -> Self {
        Self { cache, rows: HashMap::new() }
    }

    /// Adds one row without asking whether it was wanted.
    pub fn insert(&mut self, row: Arc<Row>) {
        self.rows.insert(row.state, row);
    }

    /// Adds the rows loaded in answer to `need`.
    ///
    /// # Errors
    /// [`Corrupt`] when a needed row is not among them (a state refers to a row that does not
    /// exist), or had been loaded before (a state refers to a node its row does not have); the
    /// operation would otherwise ask for ever.
    pub fn add(
        &mut self,
        need: &[StateNid],
        loaded: impl IntoIterator<Item = Arc<Row>>,
    ) -> Result<(), Corrupt> {
        if need.iter().any(|state| self.rows.contains_key(state)) {
            return Err(Corrupt("reference to a node that is not in its row"));
        }
        loaded.into_iter().for_each(|row| self.insert(row));
        if need.iter().all(|state| self.rows.contains_key(state)) {
            Ok(())
        } else {
            Err(Corrupt("reference to a row that does not exist"))
        }
    }
}

impl<C: Nodes> Nodes for LoadedRows<C> {
    fn node(&self, at: NodeRef) -> Option<Arc<Node>> {
        match self.rows.get(&at.state) {
            Some(row) => row.nodes.get(at.index as usize).cloned(),
            None => self.cache.node(at),
        }
    }
}
