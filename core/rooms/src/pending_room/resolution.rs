//! State resolution for a room that forked: drives `rules::resolve` with what it asks for from the
//! store, and makes the resolved state.

use std::collections::{BTreeSet, HashMap};

use colonnade_model::{
    nid::{EventNid, StateKeyNid, StateNid},
    ruma::OwnedEventId,
};
use colonnade_rules::{
    auth::StateKey,
    resolve::{Chains, ForkEntries, Resolver, Step},
    trie::{NewState, StateChange},
};
use colonnade_storage::rooms::state::Part;

use super::PendingRoom;
use crate::store::Store;
use crate::{Error, Result};

/// A resolved state.
pub(crate) struct Resolved {
    /// Its id.
    pub(crate) state: StateNid,
    /// The state itself, if there was none equal to it.
    pub(crate) new_state: Option<NewState>,
}

/// Keys on which the forks differ, each with its part and name.
type Conflicted = HashMap<StateKeyNid, (Part, StateKey)>;

/// Resolves two or more different states of a room.
///
/// # Errors
/// When the database fails, or the events make no sense.
pub(crate) async fn resolve(
    pending: &PendingRoom,
    store: &Store,
    states: &[StateNid],
) -> Result<Resolved> {
    let base = states[0];
    let conflicted = conflicted(pending, store, states).await?;
    let forks = entries(pending, store, states, &conflicted).await?;
    let failed = |error| Error::internal("resolve the state of a room", error);
    let mut resolver = Resolver::new(forks, &pending.room.rules, Chains::default());
    let resolution = loop {
        match resolver.step().map_err(failed)? {
            Step::Events(ids) => {
                let mut found = Vec::with_capacity(ids.len());
                for id in &ids {
                    found.extend(pending.find(store, id).await?.map(|event| event.event.clone()));
                }
                resolver.add_events(found);
            }
            Step::Newer(ids) => {
                resolver.add_newer(newer(pending, store, base, &conflicted, &ids).await?);
            }
            Step::Keys(keys) => {
                let held = pending.look_up(store, Some(base), &keys).await?;
                let ids = held.into_iter().map(|(key, e)| (key, e.event.event_id().to_owned()));
                resolver.add_keys(ids);
            }
            Step::Done(resolution) => break resolution,
        }
    };
    let mut change = StateChange::default();
    for ((kind, state_key), id) in resolution.keys {
        let kind = kind.to_string();
        let state_key_nid = store.context.interned.state_key_nid(&kind, &state_key).await?;
        let nid = match id {
            Some(id) => {
                let found = pending.find(store, &id).await?;
                let missing = || Error::internal("resolve the state of a room", Unknown(id));
                Some(found.ok_or_else(missing)?.nid)
            }
            None => None,
        };
        match Part::of(&kind) {
            Part::Core => change.core.push((state_key_nid, nid)),
            Part::Member => change.member.push((state_key_nid, nid)),
        }
    }
    make(pending, store, states, &change).await
}

/// Makes the state that the change of the first fork leads to, unless it is one of the forks or
/// exists otherwise.
async fn make(
    pending: &PendingRoom,
    store: &Store,
    states: &[StateNid],
    change: &StateChange,
) -> Result<Resolved> {
    let context = &store.context;
    let newest = states.iter().max().copied().unwrap_or(StateNid(0));
    let own = context.nids.states(&context.db, 1, newest).await?;
    let made = store.states().change(Some(states[0]), change, own, &pending.trie).await?;
    for state in states {
        if store.states().get_with(*state, &pending.trie).await?.digest == made.state.digest {
            return Ok(Resolved { state: *state, new_state: None });
        }
    }
    match store.states().find_equal(pending.room.nid, &made.state).await? {
        Some(state) => Ok(Resolved { state, new_state: None }),
        None => Ok(Resolved { state: made.nid, new_state: Some(made) }),
    }
}

/// Finds the keys that not all forks agree on.
async fn conflicted(
    pending: &PendingRoom,
    store: &Store,
    states: &[StateNid],
) -> Result<Conflicted> {
    let mut state_key_nids: BTreeSet<StateKeyNid> = BTreeSet::new();
    let mut member: BTreeSet<StateKeyNid> = BTreeSet::new();
    for other in &states[1..] {
        for (part, found) in [(Part::Core, &mut state_key_nids), (Part::Member, &mut member)] {
            let deltas = store.states().diff_with(states[0], *other, part, &pending.trie).await?;
            found.extend(deltas.iter().map(|delta| delta.state_key_nid));
        }
    }
    let mut conflicted = Conflicted::new();
    for (part, state_key_nids) in [(Part::Core, state_key_nids), (Part::Member, member)] {
        let state_key_nids: Vec<StateKeyNid> = state_key_nids.into_iter().collect();
        let names = store.context.interned.state_keys(&state_key_nids).await?;
        for (state_key_nid, name) in state_key_nids.into_iter().zip(names) {
            let key = ((*name.event_type).into(), name.state_key.to_string());
            conflicted.insert(state_key_nid, (part, key));
        }
    }
    Ok(conflicted)
}

/// Returns what each fork has under the conflicted keys.
async fn entries(
    pending: &PendingRoom,
    store: &Store,
    states: &[StateNid],
    conflicted: &Conflicted,
) -> Result<Vec<ForkEntries>> {
    let keys: Vec<StateKey> = conflicted.values().map(|(_, key)| key.clone()).collect();
    let mut forks = Vec::with_capacity(states.len());
    for state in states {
        let held = pending.look_up(store, Some(*state), &keys).await?;
        let ids = held.into_iter().map(|(key, event)| (key, event.event.event_id().to_owned()));
        forks.push(ids.collect());
    }
    Ok(forks)
}

/// Returns the unconflicted events that might have one of the candidates in their auth chain: those
/// that came after the oldest of them.
async fn newer(
    pending: &PendingRoom,
    store: &Store,
    base: StateNid,
    conflicted: &Conflicted,
    candidates: &[OwnedEventId],
) -> Result<Vec<OwnedEventId>> {
    let mut oldest: Option<EventNid> = None;
    for id in candidates {
        if let Some(event) = pending.find(store, id).await? {
            oldest = Some(oldest.map_or(event.nid, |oldest| oldest.min(event.nid)));
        }
    }
    let Some(oldest) = oldest else { return Ok(Vec::new()) };
    let mut ids = Vec::new();
    for part in [Part::Core, Part::Member] {
        for entry in store.states().list_with(base, part, &pending.trie).await? {
            if entry.event > oldest && !conflicted.contains_key(&entry.state_key_nid) {
                ids.push(pending.event(store, entry.event).await?.event.event_id().to_owned());
            }
        }
    }
    Ok(ids)
}

/// A resolved state names an event that is not here, though it was among those resolved.
#[derive(Debug, thiserror::Error)]
#[error("event {0} is not known")]
struct Unknown(OwnedEventId);
