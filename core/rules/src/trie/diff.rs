//! Comparing two tries. Shared subtrees are skipped, so the cost follows the difference.

use std::collections::HashSet;

use super::{
    Child, Corrupt, Delta, Entry, Node, NodeRef, Nodes, Progress,
    key::{KEY_BITS, NODE_BITS, slot},
    mix,
};

/// Compares two tries, level by level.
///
/// Call [`Diff::step`]; while it answers [`Progress::Need`], load those rows and call it again.
/// Differences come in no particular order, each key once, and may be taken at any time.
#[derive(Debug)]
pub struct Diff {
    open: Vec<Pair>,
    asked: HashSet<NodeRef>,
    found: Vec<Delta>,
}

/// Two subtrees with the same key prefix, of `depth` bits when a side is a node.
#[derive(Debug)]
struct Pair {
    before: Side,
    after: Side,
    depth: u8,
}

#[derive(Debug)]
enum Side {
    /// A node not looked at yet.
    At(NodeRef),
    /// A leaf, a piece of one, or nothing. Ascending by state key id.
    Entries(Vec<Entry>),
    /// Neighbouring children of an inner node at this depth.
    Children(Vec<Child>, u8),
}

impl Side {
    fn of(at: Option<NodeRef>) -> Self {
        at.map_or(Self::Entries(Vec::new()), Self::At)
    }
}

impl Diff {
    /// Starts at two roots.
    pub fn new(before: Option<NodeRef>, after: Option<NodeRef>) -> Self {
        let mut diff = Self { open: Vec::new(), asked: HashSet::new(), found: Vec::new() };
        diff.push(Side::of(before), Side::of(after), 0);
        diff
    }

    /// Goes as far as the loaded rows allow.
    ///
    /// # Errors
    /// [`Corrupt`], also when a node asked for before is still not there.
    pub fn step(&mut self, nodes: &impl Nodes) -> Result<Progress, Corrupt> {
        let mut waiting = Vec::new();
        let mut need = Vec::new();
        while let Some(mut pair) = self.open.pop() {
            let before = self.open_side(nodes, &mut pair.before, pair.depth)?;
            let after = self.open_side(nodes, &mut pair.after, pair.depth)?;
            let missing = [before, after].into_iter().flatten();
            let known = need.len();
            need.extend(missing.map(|at| at.state));
            if need.len() == known {
                self.compare(pair)?;
            } else {
                waiting.push(pair);
            }
        }
        if waiting.is_empty() {
            return Ok(Progress::Done);
        }
        need.sort_unstable();
        need.dedup();
        // A node may be in several pairs; it counts as asked for from now on.
        for pair in &waiting {
            for side in [&pair.before, &pair.after] {
                if let Side::At(at) = side {
                    self.asked.insert(*at);
                }
            }
        }
        self.open = waiting;
        Ok(Progress::Need(need))
    }

    /// Takes the differences found since the last call.
    pub fn take(&mut self) -> Vec<Delta> {
        std::mem::take(&mut self.found)
    }

    /// Looks at the node of a side; returns it if it is not loaded.
    fn open_side(
        &self,
        nodes: &impl Nodes,
        side: &mut Side,
        depth: u8,
    ) -> Result<Option<NodeRef>, Corrupt> {
        let Side::At(at) = *side else { return Ok(None) };
        let Some(node) = nodes.node(at) else {
            if self.asked.contains(&at) {
                return Err(Corrupt("reference to a node that does not exist"));
            }
            return Ok(Some(at));
        };
        *side = match &*node {
            Node::Leaf(entries) => Side::Entries(entries.to_vec()),
            Node::Inner(_) if depth > KEY_BITS - NODE_BITS => {
                return Err(Corrupt("inner node where none can be"));
            }
            Node::Inner(inner) => Side::Children(inner.children.to_vec(), depth),
        };
        Ok(None)
    }

    fn push(&mut self, before: Side, after: Side, depth: u8) {
        match (&before, &after) {
            (Side::At(before), Side::At(after)) if before == after => {}
            (Side::Entries(before), Side::Entries(after)) => self.merge(before, after),
            _ => self.open.push(Pair { before, after, depth }),
        }
    }

    fn compare(&mut self, pair: Pair) -> Result<(), Corrupt> {
        match (pair.before, pair.after) {
            (Side::Entries(before), Side::Entries(after)) => self.merge(&before, &after),
            (Side::Entries(before), Side::Children(after, depth)) => {
                for child in after {
                    let part = within(&before, &child, depth);
                    self.push(Side::Entries(part), Side::of(child.at()), depth + child.bits);
                }
            }
            (Side::Children(before, depth), Side::Entries(after)) => {
                for child in before {
                    let part = within(&after, &child, depth);
                    self.push(Side::of(child.at()), Side::Entries(part), depth + child.bits);
                }
            }
            (Side::Children(before, depth), Side::Children(after, _)) => {
                self.align(&before, &after, depth)?;
            }
            // Both sides were opened by the caller.
            (Side::At(_), _) | (_, Side::At(_)) => return Err(Corrupt("node not opened")),
        }
        Ok(())
    }

    /// Pairs the children of two inner nodes at the same depth; where one side is split finer,
    /// the children there go against the one coarser child.
    fn align(
        &mut self,
        mut before: &[Child],
        mut after: &[Child],
        depth: u8,
    ) -> Result<(), Corrupt> {
        while let (Some(one), Some(two)) = (before.first(), after.first()) {
            if one.slot != two.slot {
                return Err(Corrupt("children of different places"));
            }
            let end = (one.slot + one.width()).max(two.slot + two.width());
            let (mine, rest) = before.split_at(before.partition_point(|child| child.slot < end));
            let (other, others) = after.split_at(after.partition_point(|child| child.slot < end));
            let bits = one.bits.min(two.bits);
            self.push(group(mine, depth), group(other, depth), depth + bits);
            (before, after) = (rest, others);
        }
        Ok(())
    }

    /// Compares two ascending runs of entries.
    fn merge(&mut self, before: &[Entry], after: &[Entry]) {
        let key = |entry: &Entry| entry.state_key_nid.0 as u64;
        let (mut one, mut two) = (before.iter().peekable(), after.iter().peekable());
        loop {
            let delta = match (one.peek(), two.peek()) {
                (None, None) => return,
                (Some(old), Some(new)) if key(old) == key(new) => {
                    let delta = Delta {
                        state_key_nid: old.state_key_nid,
                        before: Some(old.event),
                        after: Some(new.event),
                    };
                    one.next();
                    two.next();
                    delta
                }
                (Some(old), new) if new.is_none_or(|new| key(old) < key(new)) => {
                    let delta = Delta {
                        state_key_nid: old.state_key_nid,
                        before: Some(old.event),
                        after: None,
                    };
                    one.next();
                    delta
                }
                (_, Some(new)) => {
                    let delta = Delta {
                        state_key_nid: new.state_key_nid,
                        before: None,
                        after: Some(new.event),
                    };
                    two.next();
                    delta
                }
                (Some(_), None) => return,
            };
            if delta.before != delta.after {
                self.found.push(delta);
            }
        }
    }
}

/// One child is its own subtree; several stay children of their node.
fn group(children: &[Child], depth: u8) -> Side {
    match children {
        [child] => Side::of(child.at()),
        _ => Side::Children(children.to_vec(), depth),
    }
}

/// Returns the entries that belong in the place of the child of an inner node at `depth`.
fn within(entries: &[Entry], child: &Child, depth: u8) -> Vec<Entry> {
    let slots = child.slot..child.slot + child.width();
    entries.iter().filter(|e| slots.contains(&slot(mix(e.state_key_nid), depth))).copied().collect()
}
