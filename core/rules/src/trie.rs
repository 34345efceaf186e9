//! The state trie: what a room state is made of, and how one state becomes the next.
//!
//! A room state is a map `SkeyNid → EventNid`, kept as two tries (membership, and everything
//! else). States share nodes: a change writes only the path it touched, as one row of a few
//! hundred bytes. This module decides what the rows contain. It never loads one: it asks a
//! [`Nodes`] for what is in memory and answers [`TrieError::Missing`] or [`Progress::Need`] with
//! the rows the caller must load before asking again.
//!
//! Invariants, relied upon by everything that reads states:
//!
//! 1. **Canonical shape.** A subtree is a leaf exactly when it holds at most [`LEAF_MAX`] entries;
//!    otherwise it splits by the next bit of [`mix`]`(skey)`. Four such levels form one inner
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

use colonnade_model::nid::{EventNid, SkeyNid, StateNid};

mod build;
mod change;
mod diff;
mod digest;
mod lookup;
mod node;
mod rows;
mod state;
mod walk;

#[cfg(test)]
mod tests;

pub use self::{
    build::NewRow,
    diff::Diff,
    digest::{Digest, DigestKey},
    lookup::{lookup, lookup_many},
    node::{Child, ChildKind, Inner, Node, Row},
    rows::{LoadedRows, NoNodes},
    state::{NewState, State, StateChange},
    walk::Walk,
};

/// The most entries a leaf holds. A larger leaf is rewritten whole on each change, a smaller one
/// needs more references above it; 32 had the fewest bytes per change from 1k to 200k members.
pub const LEAF_MAX: usize = 32;

/// Names one node: the state whose row holds it, and its place in that row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeRef {
    /// The state whose change created the node.
    pub state: StateNid,
    /// The node's place in the row, from 0.
    pub index: u32,
}

impl NodeRef {
    /// Encodes a root for a column of its own: two varints.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8);
        node::put_varint(&mut out, self.state.0 as u64);
        node::put_varint(&mut out, u64::from(self.index));
        out
    }

    /// Reads what [`NodeRef::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = node::Input::new(bytes);
        let state = StateNid(input.varint()? as i64);
        let index = input.varint_u32()?;
        input.end()?;
        Ok(Self { state, index })
    }
}

/// One entry of a state: which event holds the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Entry {
    /// The pair of event type and state key.
    pub skey: SkeyNid,
    /// The state event.
    pub event: EventNid,
}

/// One key whose event differs between two states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Delta {
    /// The key.
    pub skey: SkeyNid,
    /// Its event in the first state, if it had one.
    pub before: Option<EventNid>,
    /// Its event in the second state, if it has one.
    pub after: Option<EventNid>,
}

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

/// Spreads ids over 64 bits, so that neighbours do not share a leaf. A bijection: two keys never
/// collide, so a path has at most 16 inner nodes.
pub fn mix(skey: SkeyNid) -> u64 {
    // The finaliser of MurmurHash3.
    let mut key = skey.0 as u64;
    key ^= key >> 33;
    key = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
    key ^= key >> 33;
    key = key.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

/// The number of key bits, so the depth below which nothing can split.
const KEY_BITS: u8 = 64;

/// The binary levels packed into one inner node.
const NODE_BITS: u8 = 4;

/// Returns which of the 16 slots of an inner node at `depth` bits the key belongs to.
fn slot(key: u64, depth: u8) -> u8 {
    debug_assert!(depth <= KEY_BITS - NODE_BITS);
    ((key >> (KEY_BITS - NODE_BITS - depth)) & 15) as u8
}
