//! Point lookups: one path from the root each.

use std::collections::BTreeSet;

use super::{
    Corrupt, Node, NodeRef, Nodes, TrieError,
    key::{KEY_BITS, NODE_BITS, slot},
    mix,
};
use colonnade_model::nid::{EventNid, StateKeyNid, StateNid};

/// Returns the event that holds the key, if any.
///
/// # Errors
/// [`TrieError::Missing`] with the next row of the path, or [`TrieError::Corrupt`].
pub fn lookup(
    nodes: &impl Nodes,
    root: Option<NodeRef>,
    state_key_nid: StateKeyNid,
) -> Result<Option<EventNid>, TrieError> {
    match path(nodes, root, state_key_nid)? {
        Found::Event(event) => Ok(event),
        Found::Missing(state) => Err(TrieError::Missing(vec![state])),
    }
}

/// Returns the events that hold the keys, in the order of the keys.
///
/// # Errors
/// [`TrieError::Missing`] with the next row of every path that needs one, so that loading and
/// asking again takes as many rounds as the trie has levels, not as there are keys; or
/// [`TrieError::Corrupt`].
pub fn lookup_many(
    nodes: &impl Nodes,
    root: Option<NodeRef>,
    state_key_nids: &[StateKeyNid],
) -> Result<Vec<Option<EventNid>>, TrieError> {
    let mut events = Vec::with_capacity(state_key_nids.len());
    let mut missing = BTreeSet::new();
    for &state_key_nid in state_key_nids {
        match path(nodes, root, state_key_nid)? {
            Found::Event(event) => events.push(event),
            Found::Missing(state) => {
                missing.insert(state);
            }
        }
    }
    if missing.is_empty() {
        Ok(events)
    } else {
        Err(TrieError::Missing(missing.into_iter().collect()))
    }
}

enum Found {
    Event(Option<EventNid>),
    Missing(StateNid),
}

fn path(
    nodes: &impl Nodes,
    root: Option<NodeRef>,
    state_key_nid: StateKeyNid,
) -> Result<Found, Corrupt> {
    let Some(mut at) = root else { return Ok(Found::Event(None)) };
    let key = mix(state_key_nid);
    for depth in (0..=KEY_BITS).step_by(NODE_BITS as usize) {
        let Some(node) = nodes.node(at) else { return Ok(Found::Missing(at.state)) };
        match &*node {
            Node::Leaf(entries) => {
                let found = entries
                    .binary_search_by_key(&(state_key_nid.0 as u64), |e| e.state_key_nid.0 as u64);
                return Ok(Found::Event(found.ok().map(|place| entries[place].event)));
            }
            Node::Inner(_) if depth == KEY_BITS => break,
            Node::Inner(inner) => match inner.child(slot(key, depth)).and_then(|c| c.at()) {
                None => return Ok(Found::Event(None)),
                Some(below) => at = below,
            },
        }
    }
    Err(Corrupt("trie deeper than its keys"))
}
