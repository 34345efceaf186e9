//! The state trie: what a room state is made of, and how one state becomes the next.
//!
//! A room state is a map `StateKeyNid → EventNid`, kept as two tries (membership, and everything
//! else). States share nodes: a change writes only the path it touched, as one row of a few
//! hundred bytes. This module decides what the rows contain. It never loads one: it asks a
//! [`Nodes`] for what is in memory and answers [`TrieError::Missing`] or [`Progress::Need`] with
//! the rows the caller must load before asking again.
//!
//! Invariants, relied upon by everything that reads states:
//!
//! 1. **Canonical shape.** A subtree is a leaf exactly when it holds at most [`LEAF_MAX`] entries;
//!    otherwise it splits by the next bit of [`mix`]`(state key id)`. Four such levels form one inner
//!    node. The same entries always give the same shape, whatever the history.
//! 2. **References point back.** A node refers to nodes of states with a smaller [`StateNid`], or
//!    to earlier nodes of its own row. So there are no cycles, and a stored reference is a small
//!    difference.
//! 3. **Identity means equality.** The same [`NodeRef`] is the same subtree: diff skips it.
//! 4. **Decoding is total.** Bytes of a row are either a row or [`Corrupt`], never a panic.
//!
//! How a caller drives an operation (`load` reads rows and decodes them with [`Row::decode`]):
//!
//! ```text
//! let mut rows = LoadedRows::over(&cache);
//! let found = loop {
//!     match trie::lookup_many(&rows, root, &keys) {
//!         Err(TrieError::Missing(need)) => rows.add(&need, load(&need).await?)?,
//!         other => break other?,
//!     }
//! };
//! ```
//!
//! Lookups and changes are restarted after a load, at most once per trie level. [`Walk`] and
//! [`Diff`] may visit thousands of rows, so they remember where they are instead.

use std::sync::Arc;

use colonnade_model::nid::StateNid;

mod build;
mod change;
mod diff;
mod digest;
mod error;
mod key;
mod lookup;
mod node;
mod rows;
mod state;
mod varint;
mod walk;

#[cfg(test)]
mod tests;

pub use self::{
    build::NewRow,
    diff::Diff,
    digest::{Digest, DigestKey},
    error::{Corrupt, TrieError},
    key::{Delta, Entry, LEAF_MAX, NodeRef, mix},
    lookup::{lookup, lookup_many},
    node::{Child, ChildKind, Inner, Node, Row},
    rows::{LoadedRows, NoNodes},
    state::{NewState, State, StateChange},
    walk::Walk,
};

/// Where decoded nodes are found. Answers from memory only.
///
/// A source must keep answering for a node it has answered for, or was given, until the operation
/// ends; otherwise an operation may ask for the same row twice and call it corrupt. Wrap an
/// evicting cache in [`LoadedRows`].
pub trait Nodes {
    /// Returns the node, or `None` when its row is not in memory.
    fn node(&self, at: NodeRef) -> Option<Arc<Node>>;
}

impl<N: Nodes + ?Sized> Nodes for &N {
    fn node(&self, at: NodeRef) -> Option<Arc<Node>> {
        (**self).node(at)
    }
}

/// How far a resumable operation has come.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// These rows are needed, all that can be known now, ascending and without duplicates.
    Need(Vec<StateNid>),
    /// Finished; the result is complete.
    Done,
}
