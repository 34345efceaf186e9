//! Changing a trie: the paths that change are made anew, all else is kept.

use std::collections::BTreeSet;

use super::{
    Child, ChildKind, Corrupt, Delta, Entry, Inner, LEAF_MAX, Node, NodeRef, Nodes, TrieError,
    build::{Part, Source, Tree, place},
    key::{KEY_BITS, NODE_BITS, slot},
    mix,
};
use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};

/// A changed trie that is not written yet.
#[derive(Debug)]
pub(super) struct Changed {
    pub(super) tree: Tree,
    /// What really changed, each key once, unordered.
    pub(super) deltas: Vec<Delta>,
}

/// Applies the edits: an event sets the key, `None` removes it. Of several edits of one key the
/// last counts. Edits that change nothing leave every node as it is.
///
/// Rows that are needed and not loaded are added to `missing`, and the result is `None`.
pub(super) fn change(
    nodes: &impl Nodes,
    root: Option<NodeRef>,
    edits: &[(StateKeyNid, Option<EventNid>)],
    missing: &mut BTreeSet<StateNid>,
) -> Result<Option<Changed>, TrieError> {
    let mut edits: Vec<Edit> = edits
        .iter()
        .map(|&(state_key_nid, event)| Edit { key: mix(state_key_nid), state_key_nid, event })
        .collect();
    // Stable, so that the last edit of a key stays last.
    edits.sort_by_key(|edit| edit.key);
    edits.reverse();
    edits.dedup_by_key(|edit| edit.key);
    edits.reverse();

    let mut editor = Editor { nodes, missing, deltas: Vec::new() };
    let tree = match root {
        None => Some(Tree::of(editor.apply(&[], &edits), 0)),
        Some(at) => editor.node(at, Prefix::ROOT, &edits)?,
    };
    Ok(tree.map(|tree| Changed { tree, deltas: editor.deltas }))
}

#[derive(Clone, Copy)]
struct Edit {
    key: u64,
    state_key_nid: StateKeyNid,
    event: Option<EventNid>,
}

struct Editor<'a, N> {
    nodes: &'a N,
    missing: &'a mut BTreeSet<StateNid>,
    deltas: Vec<Delta>,
}

/// The first `depth` bits of the keys below a node.
#[derive(Clone, Copy)]
struct Prefix {
    bits: u64,
    depth: u8,
}

impl Prefix {
    const ROOT: Self = Self { bits: 0, depth: 0 };

    fn contains(self, entry: &Entry) -> bool {
        self.depth == 0 || (mix(entry.state_key_nid) ^ self.bits) >> (KEY_BITS - self.depth) == 0
    }
}

/// The place of a binary subtree: below the inner node at `node`, from `slot`, `bits` deeper.
#[derive(Clone, Copy)]
struct Place {
    node: Prefix,
    slot: u8,
    bits: u8,
}

impl Place {
    fn prefix(self) -> Prefix {
        let slot = u64::from(self.slot) << (KEY_BITS - NODE_BITS - self.node.depth);
        Prefix { bits: self.node.bits | slot, depth: self.node.depth + self.bits }
    }

    fn width(self) -> u8 {
        1 << (NODE_BITS - self.bits)
    }

    fn halves(self) -> [Self; 2] {
        let left = Self { bits: self.bits + 1, ..self };
        [left, Self { slot: self.slot + left.width(), ..left }]
    }
}

impl<N: Nodes> Editor<'_, N> {
    fn load(&mut self, at: NodeRef) -> Option<std::sync::Arc<Node>> {
        let node = self.nodes.node(at);
        if node.is_none() {
            self.missing.insert(at.state);
        }
        node
    }

    /// Loads a leaf of a known length.
    fn leaf(
        &mut self,
        at: NodeRef,
        len: u8,
        prefix: Prefix,
    ) -> Result<Option<Vec<Entry>>, TrieError> {
        let Some(node) = self.load(at) else { return Ok(None) };
        match &*node {
            Node::Leaf(entries) if entries.len() == usize::from(len) => {
                check_places(entries, prefix)?;
                Ok(Some(entries.to_vec()))
            }
            _ => Err(Corrupt("leaf is not what its parent says").into()),
        }
    }

    /// Edits the subtree whose node is `at`: a root, or what its parent says is an inner node.
    fn node(
        &mut self,
        at: NodeRef,
        prefix: Prefix,
        edits: &[Edit],
    ) -> Result<Option<Tree>, TrieError> {
        let Some(node) = self.load(at) else { return Ok(None) };
        match &*node {
            Node::Leaf(entries) if prefix.depth == 0 => {
                let before = self.deltas.len();
                let edited = self.apply(entries, edits);
                if self.deltas.len() == before {
                    let len = entries.len() as u8;
                    return Ok(Some(Tree::Leaf(Source::Kept { at, len })));
                }
                Ok(Some(Tree::of(edited, prefix.depth)))
            }
            Node::Inner(inner) if prefix.depth <= KEY_BITS - NODE_BITS => {
                self.inner(at, inner, prefix, edits)
            }
            _ => Err(Corrupt("node is not what its parent says").into()),
        }
    }

    fn inner(
        &mut self,
        at: NodeRef,
        inner: &Inner,
        prefix: Prefix,
        edits: &[Edit],
    ) -> Result<Option<Tree>, TrieError> {
        let place = Place { node: prefix, slot: 0, bits: 0 };
        let Some(mut parts) = self.range(&inner.children, place, edits)? else { return Ok(None) };
        if parts.len() == 1 {
            // Everything below came to fit in a leaf.
            return Ok(parts.pop().map(|part| part.tree));
        }
        let same = parts.len() == inner.children.len()
            && parts.iter().zip(&inner.children).all(|(part, child)| part.is(child));
        let source = if same { Source::Kept { at, len: 0 } } else { Source::New(parts) };
        Ok(Some(Tree::Inner(source)))
    }

    /// Edits the children that fill the place. More than one part means more than
    /// [`LEAF_MAX`] entries.
    fn range(
        &mut self,
        children: &[Child],
        at: Place,
        edits: &[Edit],
    ) -> Result<Option<Vec<Part>>, TrieError> {
        if edits.is_empty() {
            return Ok(Some(children.iter().map(Part::kept).collect()));
        }
        if let [child] = children
            && (child.slot, child.bits) == (at.slot, at.bits)
        {
            return self.child(child, at, edits);
        }
        if at.bits == NODE_BITS {
            return Err(Corrupt("children do not cover the slots").into());
        }
        let [left, right] = at.halves();
        let (left_children, right_children) =
            children.split_at(children.partition_point(|child| child.slot < right.slot));
        let (left_edits, right_edits) = edits
            .split_at(edits.partition_point(|edit| slot(edit.key, at.node.depth) < right.slot));
        let left = self.range(left_children, left, left_edits)?;
        let right = self.range(right_children, right, right_edits)?;
        // Both sides ran, so that everything missing is known at once.
        let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
        self.join(left, right, at)
    }

    fn child(
        &mut self,
        child: &Child,
        at: Place,
        edits: &[Edit],
    ) -> Result<Option<Vec<Part>>, TrieError> {
        let entries = match child.kind {
            ChildKind::Inner { at: node } => {
                let tree = self.node(node, at.prefix(), edits)?;
                let part = |tree| vec![Part { slot: at.slot, bits: at.bits, tree }];
                return Ok(tree.map(part));
            }
            ChildKind::Empty => Vec::new(),
            ChildKind::Leaf { at: node, len } => {
                let Some(entries) = self.leaf(node, len, at.prefix())? else { return Ok(None) };
                entries
            }
        };
        let before = self.deltas.len();
        let edited = self.apply(&entries, edits);
        if self.deltas.len() == before {
            return Ok(Some(vec![Part::kept(child)]));
        }
        let mut parts = Vec::new();
        place(edited, at.node.depth, at.slot, at.bits, &mut parts);
        Ok(Some(parts))
    }

    /// Puts two binary subtrees together, as one leaf if they fit.
    fn join(
        &mut self,
        mut left: Vec<Part>,
        mut right: Vec<Part>,
        at: Place,
    ) -> Result<Option<Vec<Part>>, TrieError> {
        if let ([one], [two]) = (&left[..], &right[..]) {
            let sum = one.tree.small_len().zip(two.tree.small_len()).map(|(one, two)| one + two);
            if sum.is_some_and(|sum| sum <= LEAF_MAX) {
                let mut all = Vec::with_capacity(LEAF_MAX);
                for part in left.drain(..).chain(right.drain(..)) {
                    let place = Place { slot: part.slot, bits: part.bits, ..at };
                    match part.tree {
                        Tree::Leaf(Source::New(entries)) => all.extend_from_slice(&entries),
                        Tree::Leaf(Source::Kept { at: node, len }) => {
                            match self.leaf(node, len, place.prefix())? {
                                Some(entries) => all.extend(entries),
                                None => return Ok(None),
                            }
                        }
                        Tree::Empty | Tree::Inner(_) => {}
                    }
                }
                let tree = Tree::of(all, at.prefix().depth);
                return Ok(Some(vec![Part { slot: at.slot, bits: at.bits, tree }]));
            }
        }
        left.append(&mut right);
        Ok(Some(left))
    }

    /// Returns the entries with the edits applied, and notes what changed.
    fn apply(&mut self, entries: &[Entry], edits: &[Edit]) -> Vec<Entry> {
        let mut entries = entries.to_vec();
        // Entries of a leaf are ascending; what is added here goes to the end, found by nobody
        // since each key is edited once.
        let stored = entries.len();
        let mut removed = Vec::new();
        for edit in edits {
            let found = entries[..stored]
                .binary_search_by_key(&(edit.state_key_nid.0 as u64), |entry| {
                    entry.state_key_nid.0 as u64
                });
            let before = found.ok().map(|place| entries[place].event);
            if before == edit.event {
                continue;
            }
            match (found, edit.event) {
                (Ok(place), Some(event)) => entries[place].event = event,
                (Ok(place), None) => removed.push(place),
                (Err(_), Some(event)) => {
                    entries.push(Entry { state_key_nid: edit.state_key_nid, event })
                }
                (Err(_), None) => {}
            }
            self.deltas.push(Delta {
                state_key_nid: edit.state_key_nid,
                before,
                after: edit.event,
            });
        }
        removed.sort_unstable();
        for place in removed.into_iter().rev() {
            entries.remove(place);
        }
        entries
    }
}

/// A leaf whose keys belong elsewhere would come to hold a key twice, or never stop splitting.
fn check_places(entries: &[Entry], prefix: Prefix) -> Result<(), Corrupt> {
    if entries.iter().all(|entry| prefix.contains(entry)) {
        Ok(())
    } else {
        Err(Corrupt("entry outside its subtree"))
    }
}
