//! Sets of events made by following auth events: chains, their difference, and the subgraph.
//!
//! Events that are not in the map do not exist; edges to them lead nowhere.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::ruma::OwnedEventId;

use crate::event::Event;

type Events = HashMap<OwnedEventId, Arc<Event>>;

/// Whether the auth chain of a state includes the state's own events.
///
/// The specification says it does not; most of the federation runs a server that includes them,
/// and servers that disagree split rooms. Conflicts exist where the two differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Chains {
    /// Included, as Synapse does.
    #[default]
    WithState,
    /// Not included, as the specification says.
    WithoutState,
}

/// The auth chain of a state.
pub(super) fn closure<'a>(
    events: &Events,
    state: impl Iterator<Item = &'a OwnedEventId>,
    chains: Chains,
) -> HashSet<OwnedEventId> {
    let mut open: Vec<&OwnedEventId> = match chains {
        Chains::WithState => state.collect(),
        Chains::WithoutState => {
            state.filter_map(|id| events.get(id)).flat_map(|event| event.auth_events()).collect()
        }
    };
    let mut chain = HashSet::new();
    while let Some(id) = open.pop() {
        let Some(event) = events.get(id) else { continue };
        if chain.insert(id.clone()) {
            open.extend(event.auth_events());
        }
    }
    chain
}

/// The events that are in some of the sets, but not in all.
pub(super) fn difference(sets: Vec<HashSet<OwnedEventId>>) -> HashSet<OwnedEventId> {
    let all = sets.len();
    let mut counts: HashMap<OwnedEventId, usize> = HashMap::new();
    for id in sets.into_iter().flatten() {
        *counts.entry(id).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count < all).map(|(id, _)| id).collect()
}

/// The events on any path along auth events from one conflicted event to another, both included
/// (Matrix v1.19, rooms, v12, §State resolution).
pub(super) fn subgraph(
    events: &Events,
    conflicted: &BTreeSet<OwnedEventId>,
) -> HashSet<OwnedEventId> {
    // Everything here can be reached from a conflicted event, so only the other end is open.
    let below = closure(events, conflicted.iter(), Chains::WithState);
    let mut above: HashMap<&OwnedEventId, Vec<&OwnedEventId>> = HashMap::new();
    for id in &below {
        for auth_event in events[id].auth_events() {
            above.entry(auth_event).or_default().push(id);
        }
    }
    let mut open: Vec<&OwnedEventId> = conflicted.iter().filter(|id| below.contains(*id)).collect();
    let mut subgraph = HashSet::new();
    while let Some(id) = open.pop() {
        if subgraph.insert(id.clone()) {
            open.extend(above.get(id).into_iter().flatten());
        }
    }
    subgraph
}
