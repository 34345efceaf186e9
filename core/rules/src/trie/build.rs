//! Subtrees that are not written yet, and the writer that turns them into rows.

use std::sync::Arc;

use super::{
    Child, ChildKind, Entry, Inner, LEAF_MAX, Node, NodeRef, Row, TrieError,
    key::{KEY_BITS, NODE_BITS},
    mix,
    node::{put_header, put_node},
};
use colonnade_model::nid::StateNid;

/// A row of a bulk build is closed once its nodes take this many bytes. With the last node it
/// stays below 8 kB: large enough that a big room is few rows, small enough that one lookup does
/// not read (in PostgreSQL, decompress) much more than it needs.
const ROW_BYTES: usize = 6_000;

/// A row to be stored, both encoded and decoded.
#[derive(Clone, Debug)]
pub struct NewRow {
    /// The encoded nodes, for [`Row::decode`].
    pub bytes: Vec<u8>,
    /// The decoded nodes, to prime a cache with once the row is committed.
    pub row: Arc<Row>,
}

/// A subtree: as stored, or new.
#[derive(Debug)]
pub(super) enum Tree {
    Empty,
    Leaf(Source<Box<[Entry]>>),
    Inner(Source<Vec<Part>>),
}

/// Where the contents of a node are.
#[derive(Debug)]
pub(super) enum Source<T> {
    /// Stored already; for a leaf, with its number of entries.
    Kept { at: NodeRef, len: u8 },
    /// To be written.
    New(T),
}

/// A subtree in its place below an inner node.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) slot: u8,
    pub(super) bits: u8,
    pub(super) tree: Tree,
}

impl Part {
    pub(super) fn kept(child: &Child) -> Self {
        Self { slot: child.slot, bits: child.bits, tree: Tree::kept(child.kind) }
    }

    /// Tells whether the part is exactly what was stored.
    pub(super) fn is(&self, child: &Child) -> bool {
        let same = match (&self.tree, child.at()) {
            (Tree::Empty, None) => true,
            (Tree::Leaf(Source::Kept { at, .. }) | Tree::Inner(Source::Kept { at, .. }), old) => {
                Some(*at) == old
            }
            _ => false,
        };
        same && self.slot == child.slot && self.bits == child.bits
    }
}

impl Tree {
    pub(super) fn kept(kind: ChildKind) -> Self {
        match kind {
            ChildKind::Empty => Self::Empty,
            ChildKind::Leaf { len, at } => Self::Leaf(Source::Kept { at, len }),
            ChildKind::Inner { at } => Self::Inner(Source::Kept { at, len: 0 }),
        }
    }

    /// Returns the number of entries if they fit in a leaf.
    pub(super) fn small_len(&self) -> Option<usize> {
        match self {
            Self::Empty => Some(0),
            Self::Leaf(Source::Kept { len, .. }) => Some(usize::from(*len)),
            Self::Leaf(Source::New(entries)) => Some(entries.len()),
            Self::Inner(_) => None,
        }
    }

    /// Makes the canonical subtree of entries that share the first `depth` bits of their keys.
    pub(super) fn of(mut entries: Vec<Entry>, depth: u8) -> Self {
        if entries.is_empty() {
            return Self::Empty;
        }
        if entries.len() <= LEAF_MAX {
            entries.sort_unstable_by_key(|entry| entry.state_key_nid.0 as u64);
            return Self::Leaf(Source::New(entries.into_boxed_slice()));
        }
        // Two keys never have the same 64 bits, so 64 bits deep there is one entry at most.
        debug_assert!(depth < KEY_BITS);
        let mut parts = Vec::new();
        split(entries, depth, 0, 0, &mut parts);
        Self::Inner(Source::New(parts))
    }
}

/// Splits more than [`LEAF_MAX`] entries by the bit `bits` levels below `depth`, and appends the
/// subtrees that result.
pub(super) fn split(entries: Vec<Entry>, depth: u8, slot: u8, bits: u8, parts: &mut Vec<Part>) {
    let (right, left) = entries.into_iter().partition(|entry| is_right(entry, depth + bits));
    let halves: [Vec<Entry>; 2] = [left, right];
    let bits = bits + 1;
    for (half, entries) in (0u8..).zip(halves) {
        place(entries, depth, slot + (half << (NODE_BITS - bits)), bits, parts);
    }
}

/// Appends the subtrees of entries that belong in the given place of the inner node at `depth`.
pub(super) fn place(entries: Vec<Entry>, depth: u8, slot: u8, bits: u8, parts: &mut Vec<Part>) {
    if entries.len() > LEAF_MAX && bits < NODE_BITS {
        split(entries, depth, slot, bits, parts);
    } else {
        parts.push(Part { slot, bits, tree: Tree::of(entries, depth + bits) });
    }
}

/// Tells on which side of the binary split at `depth` an entry belongs.
fn is_right(entry: &Entry, depth: u8) -> bool {
    mix(entry.state_key_nid) >> (KEY_BITS - 1 - depth) & 1 == 1
}

/// Writes nodes into rows.
pub(super) struct Writer<'a> {
    own: StateNid,
    /// Gives the ids of further rows; without it everything goes into one.
    more: Option<&'a mut dyn FnMut() -> StateNid>,
    body: Vec<u8>,
    nodes: Vec<Arc<Node>>,
    rows: Vec<NewRow>,
}

impl<'a> Writer<'a> {
    /// Writes one row, of the state `own`.
    pub(super) fn one_row(own: StateNid) -> Self {
        Self { own, more: None, body: Vec::new(), nodes: Vec::new(), rows: Vec::new() }
    }

    /// Writes as many rows as it takes, with ascending ids from `more`.
    pub(super) fn many_rows(more: &'a mut dyn FnMut() -> StateNid) -> Self {
        let own = more();
        Self { more: Some(more), ..Self::one_row(own) }
    }

    /// Writes what is new in the tree, children first, and returns what a parent would store.
    pub(super) fn write(&mut self, tree: Tree) -> Result<ChildKind, TrieError> {
        Ok(match tree {
            Tree::Empty => ChildKind::Empty,
            Tree::Leaf(Source::Kept { at, len }) => ChildKind::Leaf { len, at },
            Tree::Leaf(Source::New(entries)) => {
                let len = entries.len() as u8;
                ChildKind::Leaf { len, at: self.put(Node::Leaf(entries))? }
            }
            Tree::Inner(Source::Kept { at, .. }) => ChildKind::Inner { at },
            Tree::Inner(Source::New(parts)) => {
                let mut children = Vec::with_capacity(parts.len());
                for Part { slot, bits, tree } in parts {
                    children.push(Child { slot, bits, kind: self.write(tree)? });
                }
                let children = children.into_boxed_slice();
                ChildKind::Inner { at: self.put(Node::Inner(Inner { children }))? }
            }
        })
    }

    /// Writes a whole trie and returns its root.
    pub(super) fn write_root(&mut self, tree: Tree) -> Result<Option<NodeRef>, TrieError> {
        Ok(match self.write(tree)? {
            ChildKind::Empty => None,
            ChildKind::Leaf { at, .. } | ChildKind::Inner { at } => Some(at),
        })
    }

    fn put(&mut self, node: Node) -> Result<NodeRef, TrieError> {
        if self.body.len() >= ROW_BYTES {
            let next = self.more.as_mut().map(|more| more());
            if let Some(next) = next {
                self.close();
                self.own = next;
            }
        }
        // The length fits: a row would need 4 GB for its index to overflow.
        let at = NodeRef { state: self.own, index: self.nodes.len() as u32 };
        put_node(&mut self.body, self.own, &node)?;
        self.nodes.push(Arc::new(node));
        Ok(at)
    }

    fn close(&mut self) {
        let nodes = std::mem::take(&mut self.nodes);
        let mut bytes = Vec::with_capacity(self.body.len() + 4);
        put_header(&mut bytes, nodes.len() as u32);
        bytes.append(&mut self.body);
        self.rows.push(NewRow { bytes, row: Arc::new(Row { state: self.own, nodes }) });
    }

    /// Returns the rows, the state's own last.
    pub(super) fn finish(mut self) -> Vec<NewRow> {
        self.close();
        self.rows
    }
}
