//! Keys of a state, their places in the trie, and the names of its nodes.

use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};

use super::{
    error::Corrupt,
    varint::{Input, put_varint},
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
        put_varint(&mut out, self.state.0 as u64);
        put_varint(&mut out, u64::from(self.index));
        out
    }

    /// Reads what [`NodeRef::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Input::new(bytes);
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
    pub state_key_nid: StateKeyNid,
    /// The state event.
    pub event: EventNid,
}

/// One key whose event differs between two states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Delta {
    /// The key.
    pub state_key_nid: StateKeyNid,
    /// Its event in the first state, if it had one.
    pub before: Option<EventNid>,
    /// Its event in the second state, if it has one.
    pub after: Option<EventNid>,
}

/// Spreads ids over 64 bits, so that neighbours do not share a leaf. A bijection: two keys never
/// collide, so a path has at most 16 inner nodes.
pub fn mix(state_key_nid: StateKeyNid) -> u64 {
    // The finaliser of MurmurHash3.
    let mut key = state_key_nid.0 as u64;
    key ^= key >> 33;
    key = key.wrapping_mul(0xff51_afd7_ed55_8ccd);
    key ^= key >> 33;
    key = key.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    key ^ (key >> 33)
}

/// The number of key bits, so the depth below which nothing can split.
pub(super) const KEY_BITS: u8 = 64;

/// The binary levels packed into one inner node.
pub(super) const NODE_BITS: u8 = 4;

/// Returns which of the 16 slots of an inner node at `depth` bits the key belongs to.
pub(super) fn slot(key: u64, depth: u8) -> u8 {
    debug_assert!(depth <= KEY_BITS - NODE_BITS);
    ((key >> (KEY_BITS - NODE_BITS - depth)) & 15) as u8
}
