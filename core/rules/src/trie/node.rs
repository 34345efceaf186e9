//! Nodes, and how a row of them is stored.
//!
//! ```text
//! row   = version:u8 count:varint node*            nodes, children before parents
//! node  = 0 starts:u16le child*                    inner: a bit per slot where a child begins
//!       | n(1..=32) entry*                         leaf of n entries, ascending by state key id
//! child = 0 | n(1..=32) ref | 33 ref               empty, leaf of n entries, inner
//! ref   = own state - target state:varint  index:varint
//! leaf  = first id:varint (gap to the next id:varint)* lowest event:varint (event - lowest:varint)*
//! ```

use std::sync::Arc;

use super::{
    error::{Corrupt, TrieError},
    key::{Entry, LEAF_MAX, NODE_BITS, NodeRef},
    varint::{Input, put_varint},
};
use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};

/// The format written today. A reader refuses what it does not know.
const VERSION: u8 = 1;
/// Node tag, and child tag, of an inner node; a smaller tag is the number of entries of a leaf.
const TAG_INNER_NODE: u8 = 0;
const TAG_EMPTY_CHILD: u8 = 0;
const TAG_INNER_CHILD: u8 = LEAF_MAX as u8 + 1;
/// Slots of an inner node.
const SLOTS: u8 = 1 << NODE_BITS;

/// A node of the trie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// 1 to [`LEAF_MAX`] entries, ascending by state key id.
    Leaf(Box<[Entry]>),
    /// More than [`LEAF_MAX`] entries below.
    Inner(Inner),
}

/// Four binary levels: 2 to 16 children that together cover the 16 slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inner {
    pub(super) children: Box<[Child]>,
}

/// A subtree below an inner node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    /// The first slot covered.
    pub slot: u8,
    /// The number of key bits fixed below the node: 1 (covers 8 slots) to 4 (covers one).
    pub bits: u8,
    /// What is there.
    pub kind: ChildKind,
}

/// What a child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChildKind {
    /// No entries.
    Empty,
    /// A leaf.
    Leaf {
        /// Entries in it, 1 to [`LEAF_MAX`].
        len: u8,
        /// Where it is.
        at: NodeRef,
    },
    /// An inner node; only where all four bits are used up.
    Inner {
        /// Where it is.
        at: NodeRef,
    },
}

impl Child {
    /// Returns the number of slots covered.
    pub fn width(&self) -> u8 {
        1 << (NODE_BITS - self.bits)
    }

    /// Returns where the child's node is, unless it is empty.
    pub fn at(&self) -> Option<NodeRef> {
        match self.kind {
            ChildKind::Empty => None,
            ChildKind::Leaf { at, .. } | ChildKind::Inner { at } => Some(at),
        }
    }
}

impl Inner {
    /// Returns the children, ascending by slot.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// Returns the child that covers the slot.
    pub(super) fn child(&self, slot: u8) -> Option<&Child> {
        let after = self.children.partition_point(|child| child.slot <= slot);
        self.children.get(after.checked_sub(1)?)
    }
}

impl Node {
    /// Returns the bytes of memory the node takes, for a cache bounded by bytes.
    pub fn weight(&self) -> usize {
        let body = match self {
            Self::Leaf(entries) => size_of_val(&entries[..]),
            Self::Inner(inner) => size_of_val(&inner.children[..]),
        };
        // The node itself and the two counters of its `Arc`.
        body + size_of::<Self>() + 2 * size_of::<usize>()
    }
}

/// The nodes one change created, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// The state whose row it is.
    pub state: StateNid,
    /// The nodes; [`NodeRef::index`] is the place in here.
    pub nodes: Vec<Arc<Node>>,
}

impl Row {
    /// Reads a stored row.
    ///
    /// # Errors
    /// [`Corrupt`] when the bytes are not a row of that state.
    pub fn decode(state: StateNid, bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut input = Input::new(bytes);
        if input.byte()? != VERSION {
            return Err(Corrupt("unknown version"));
        }
        let count = input.varint_u32()?;
        // Every node takes more than one byte, so the count cannot ask for more than it brought.
        if count as usize > bytes.len() {
            return Err(Corrupt("more nodes than bytes"));
        }
        let mut nodes = Vec::with_capacity(count as usize);
        for index in 0..count {
            nodes.push(Arc::new(decode_node(&mut input, NodeRef { state, index })?));
        }
        input.end()?;
        Ok(Self { state, nodes })
    }
}

/// Writes the head of a row; the nodes follow.
pub(super) fn put_header(out: &mut Vec<u8>, count: u32) {
    out.push(VERSION);
    put_varint(out, u64::from(count));
}

/// Writes one node of the row of state `own`.
pub(super) fn put_node(out: &mut Vec<u8>, own: StateNid, node: &Node) -> Result<(), TrieError> {
    match node {
        Node::Leaf(entries) => put_leaf(out, entries),
        Node::Inner(inner) => put_inner(out, own, inner)?,
    }
    Ok(())
}

fn put_leaf(out: &mut Vec<u8>, entries: &[Entry]) {
    debug_assert!((1..=LEAF_MAX).contains(&entries.len()));
    out.push(entries.len() as u8);
    let mut previous = 0;
    for entry in entries {
        put_varint(out, (entry.state_key_nid.0 as u64).wrapping_sub(previous));
        previous = entry.state_key_nid.0 as u64;
    }
    let lowest = entries.iter().map(|entry| entry.event.0 as u64).min().unwrap_or(0);
    put_varint(out, lowest);
    for entry in entries {
        put_varint(out, entry.event.0 as u64 - lowest);
    }
}

fn put_inner(out: &mut Vec<u8>, own: StateNid, inner: &Inner) -> Result<(), TrieError> {
    out.push(TAG_INNER_NODE);
    let starts = inner.children.iter().fold(0u16, |mask, child| mask | 1 << child.slot);
    out.extend_from_slice(&starts.to_le_bytes());
    for child in &inner.children {
        let at = match child.kind {
            ChildKind::Empty => {
                out.push(TAG_EMPTY_CHILD);
                continue;
            }
            ChildKind::Leaf { len, at } => {
                out.push(len);
                at
            }
            ChildKind::Inner { at } => {
                out.push(TAG_INNER_CHILD);
                at
            }
        };
        let back = (own.0 as u64)
            .checked_sub(at.state.0 as u64)
            .ok_or(TrieError::Order { own, target: at.state })?;
        put_varint(out, back);
        put_varint(out, u64::from(at.index));
    }
    Ok(())
}

fn decode_node(input: &mut Input<'_>, own: NodeRef) -> Result<Node, Corrupt> {
    match input.byte()? {
        TAG_INNER_NODE => decode_inner(input, own),
        len if len as usize <= LEAF_MAX => decode_leaf(input, len),
        _ => Err(Corrupt("unknown node tag")),
    }
}

fn decode_leaf(input: &mut Input<'_>, len: u8) -> Result<Node, Corrupt> {
    let mut state_key_nids = [0u64; LEAF_MAX];
    let state_key_nids = &mut state_key_nids[..len as usize];
    let mut previous = None;
    for state_key_nid in state_key_nids.iter_mut() {
        let gap = input.varint()?;
        *state_key_nid = match previous {
            None => gap,
            Some(_) if gap == 0 => return Err(Corrupt("repeated key in a leaf")),
            Some(previous) => gap.checked_add(previous).ok_or(Corrupt("key out of range"))?,
        };
        previous = Some(*state_key_nid);
    }
    let lowest = input.varint()?;
    let mut entries = Vec::with_capacity(state_key_nids.len());
    for &mut state_key_nid in state_key_nids {
        let event = input.varint()?.checked_add(lowest).ok_or(Corrupt("event out of range"))?;
        entries.push(Entry {
            state_key_nid: StateKeyNid(state_key_nid as i64),
            event: EventNid(event as i64),
        });
    }
    Ok(Node::Leaf(entries.into_boxed_slice()))
}

fn decode_inner(input: &mut Input<'_>, own: NodeRef) -> Result<Node, Corrupt> {
    let starts = u16::from_le_bytes([input.byte()?, input.byte()?]);
    if starts & 1 == 0 || starts == 1 {
        return Err(Corrupt("children do not cover the slots"));
    }
    let mut children = Vec::with_capacity(starts.count_ones() as usize);
    let mut slot = 0;
    while slot < SLOTS {
        let rest = u32::from(starts) >> (slot + 1);
        let next = if rest == 0 { SLOTS } else { slot + 1 + rest.trailing_zeros() as u8 };
        let width = next - slot;
        if !width.is_power_of_two() || slot % width != 0 {
            return Err(Corrupt("child is not a binary subtree"));
        }
        let bits = NODE_BITS - width.trailing_zeros() as u8;
        let kind = decode_child(input, own, bits)?;
        children.push(Child { slot, bits, kind });
        slot = next;
    }
    Ok(Node::Inner(Inner { children: children.into_boxed_slice() }))
}

fn decode_child(input: &mut Input<'_>, own: NodeRef, bits: u8) -> Result<ChildKind, Corrupt> {
    let tag = input.byte()?;
    if tag == TAG_EMPTY_CHILD {
        return Ok(ChildKind::Empty);
    }
    if tag > TAG_INNER_CHILD {
        return Err(Corrupt("unknown child tag"));
    }
    let back = input.varint()?;
    let state = (own.state.0 as u64).checked_sub(back).ok_or(Corrupt("state out of range"))?;
    let at = NodeRef { state: StateNid(state as i64), index: input.varint_u32()? };
    if back == 0 && at.index >= own.index {
        return Err(Corrupt("reference forward in a row"));
    }
    if tag < TAG_INNER_CHILD {
        return Ok(ChildKind::Leaf { len: tag, at });
    }
    if bits != NODE_BITS {
        return Err(Corrupt("inner node too high"));
    }
    Ok(ChildKind::Inner { at })
}
