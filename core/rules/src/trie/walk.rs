//! Listing all entries of a trie.

use std::collections::HashSet;

use super::{
    Corrupt, Entry, Node, NodeRef, Nodes, Progress,
    key::{KEY_BITS, NODE_BITS},
};

/// Lists a trie, level by level.
///
/// Call [`Walk::step`]; while it answers [`Progress::Need`], load those rows and call it again.
/// Entries come in no particular order, and may be taken at any time with [`Walk::take`], so a
/// large state need not be held at once.
#[derive(Debug)]
pub struct Walk {
    open: Vec<(NodeRef, u8)>,
    asked: HashSet<NodeRef>,
    /// A sound state refers to each of its nodes once; without this a corrupt one could take
    /// for ever.
    seen: HashSet<NodeRef>,
    found: Vec<Entry>,
}

impl Walk {
    /// Starts at a root.
    pub fn new(root: Option<NodeRef>) -> Self {
        Self {
            open: root.map(|root| (root, 0)).into_iter().collect(),
            asked: HashSet::new(),
            seen: HashSet::new(),
            found: Vec::new(),
        }
    }

    /// Goes as far as the loaded rows allow.
    ///
    /// # Errors
    /// [`Corrupt`], also when a node asked for before is still not there.
    pub fn step(&mut self, nodes: &impl Nodes) -> Result<Progress, Corrupt> {
        let mut waiting = Vec::new();
        while let Some((at, depth)) = self.open.pop() {
            let Some(node) = nodes.node(at) else {
                if !self.asked.insert(at) {
                    return Err(Corrupt("reference to a node that does not exist"));
                }
                waiting.push((at, depth));
                continue;
            };
            if !self.seen.insert(at) {
                return Err(Corrupt("node referred to twice"));
            }
            match &*node {
                Node::Leaf(entries) => self.found.extend_from_slice(entries),
                Node::Inner(_) if depth == KEY_BITS => {
                    return Err(Corrupt("trie deeper than its keys"));
                }
                Node::Inner(inner) => {
                    let below = inner.children.iter().filter_map(|child| child.at());
                    self.open.extend(below.map(|at| (at, depth + NODE_BITS)));
                }
            }
        }
        if waiting.is_empty() {
            return Ok(Progress::Done);
        }
        let mut need: Vec<_> = waiting.iter().map(|(at, _)| at.state).collect();
        need.sort_unstable();
        need.dedup();
        self.open = waiting;
        Ok(Progress::Need(need))
    }

    /// Takes the entries found since the last call.
    pub fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.found)
    }
}
