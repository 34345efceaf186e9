//! State resolution of room versions 2 and later (Matrix v1.19, rooms, v2 and v12, §State resolution).
//!
//! ruma's algorithm takes whole states and whole auth chains. This one takes what differs and
//! asks for the little else it needs, so its cost follows the conflict, not the room. It gives
//! ruma **trimmed** states: the conflicted keys, and of the unconflicted state only the keys that
//! authorization of the events at hand can read.
//!
//! What is asked for, and in this order:
//!
//! 1. [`Step::Events`], several times: the conflicted events and, level by level, everything in
//!    their auth chains. An event that cannot be found is left out of the answer.
//! 2. [`Step::Newer`], at most once: events of the unconflicted state whose auth chains might
//!    contain one of the given candidates, then by 1. their chains as well. Every unconflicted
//!    event is a correct answer. Fewer is cheaper: only those with a greater `EventNid` than the
//!    smallest candidate can reach one (an event's nid is greater than those of its auth events).
//! 3. [`Step::Keys`], once: which unconflicted event holds each of these keys; then those events.
//! 4. [`Step::Events`] again for the mainline: earlier power levels events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::ruma::{
    EventId, OwnedEventId,
    room_version_rules::{RoomVersionRules, StateResolutionV2Rules},
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{
    auth::{StateKey, state_keys_to_check},
    event::Event,
};

use super::{
    chains::{Chains, closure, difference, subgraph},
    step::{ForkEntries, Resolution, ResolveError, Step},
};

/// A resolution under way.
#[derive(Debug)]
pub(super) struct Second {
    rules: RoomVersionRules,
    algorithm: StateResolutionV2Rules,
    chains: Chains,
    forks: Vec<ForkEntries>,
    events: HashMap<OwnedEventId, Arc<Event>>,
    /// Events asked for. One that is not in `events` does not exist.
    asked: HashSet<OwnedEventId>,
    /// The walk down the auth chains: where it has been, and where to go on.
    walked: HashSet<OwnedEventId>,
    open: Vec<OwnedEventId>,
    /// The answer to [`Step::Newer`].
    newer: Option<Vec<OwnedEventId>>,
    /// The answer to [`Step::Keys`].
    unconflicted: Option<HashMap<StateKey, OwnedEventId>>,
    /// The full conflicted set without the conflicted events, once known.
    added: Option<Added>,
}

/// What joins the conflicted events to make the full conflicted set.
#[derive(Clone, Debug, Default)]
struct Added {
    difference: HashSet<OwnedEventId>,
    subgraph: HashSet<OwnedEventId>,
}

impl Second {
    pub(super) fn new(
        forks: Vec<ForkEntries>,
        rules: &RoomVersionRules,
        algorithm: StateResolutionV2Rules,
        chains: Chains,
    ) -> Self {
        let open = forks.iter().flat_map(|fork| fork.values()).cloned().collect();
        Self {
            rules: rules.clone(),
            algorithm,
            chains,
            forks,
            events: HashMap::new(),
            asked: HashSet::new(),
            walked: HashSet::new(),
            open,
            newer: None,
            unconflicted: None,
            added: None,
        }
    }

    /// Takes the events found in answer to [`Step::Events`]; those that do not exist are left
    /// out. Events that happen to be at hand may be given as well, at any time.
    pub(super) fn add_events(&mut self, events: impl IntoIterator<Item = Arc<Event>>) {
        let by_id = |event: Arc<Event>| (event.event_id().to_owned(), event);
        self.events.extend(events.into_iter().map(by_id));
    }

    /// Takes the answer to [`Step::Newer`].
    pub(super) fn add_newer(&mut self, unconflicted: impl IntoIterator<Item = OwnedEventId>) {
        let newer: Vec<_> = unconflicted.into_iter().collect();
        self.open.extend(newer.iter().cloned());
        self.newer = Some(newer);
    }

    /// Takes the answer to [`Step::Keys`]; a key that no fork has is left out.
    pub(super) fn add_keys(&mut self, keys: impl IntoIterator<Item = (StateKey, OwnedEventId)>) {
        self.unconflicted = Some(keys.into_iter().collect());
    }

    /// Goes as far as what was given allows.
    ///
    /// # Errors
    /// [`ResolveError::Events`] when the events make no sense.
    pub(super) fn step(&mut self) -> Result<Step, ResolveError> {
        if let Some(missing) = self.missing_in_chains() {
            return Ok(Step::Events(missing));
        }
        let conflicted: BTreeSet<_> =
            self.forks.iter().flat_map(|fork| fork.values()).cloned().collect();
        if self.added.is_none() {
            let candidates = self.candidates();
            let alone = candidates.iter().all(|id| conflicted.contains(id));
            if self.newer.is_none() && !alone {
                let mut candidates: Vec<_> = candidates.into_iter().collect();
                candidates.sort();
                return Ok(Step::Newer(candidates));
            }
            self.added = Some(self.added_to(&conflicted, candidates));
        }
        let added = self.added.clone().unwrap_or_default();
        let mut full = conflicted;
        full.extend(added.difference.iter().chain(&added.subgraph).cloned());

        let Some(unconflicted) = &self.unconflicted else {
            return Ok(Step::Keys(self.keys_read(&full)));
        };
        let found: Vec<_> = unconflicted.values().cloned().chain(self.create_id(&full)).collect();
        if let Some(missing) = self.missing(found) {
            return Ok(Step::Events(missing));
        }
        if let Some(missing) = self.missing_mainline() {
            return Ok(Step::Events(missing));
        }
        self.resolve(added).map(Step::Done)
    }

    /// The candidates of the auth difference, before the unconflicted state has its say.
    fn candidates(&self) -> HashSet<OwnedEventId> {
        let starts = self.forks.iter().map(|fork| fork.values());
        let chains = starts.map(|start| closure(&self.events, start, self.chains)).collect();
        difference(chains)
    }

    /// What joins the conflicted events, given the answer to [`Step::Newer`].
    fn added_to(
        &self,
        conflicted: &BTreeSet<OwnedEventId>,
        mut difference: HashSet<OwnedEventId>,
    ) -> Added {
        let newer = self.newer.iter().flatten();
        for common in closure(&self.events, newer, self.chains) {
            difference.remove(&common);
        }
        let subgraph = if self.algorithm.consider_conflicted_state_subgraph {
            subgraph(&self.events, conflicted)
        } else {
            HashSet::new()
        };
        Added { difference, subgraph }
    }

    /// The events among these that were neither given nor asked for. They are asked for now.
    fn missing(
        &mut self,
        ids: impl IntoIterator<Item = OwnedEventId>,
    ) -> Option<Vec<OwnedEventId>> {
        let unknown = |id: &OwnedEventId| !self.events.contains_key(id) && !self.asked.contains(id);
        let mut missing: Vec<_> = ids.into_iter().filter(unknown).collect();
        missing.sort();
        missing.dedup();
        self.asked.extend(missing.iter().cloned());
        (!missing.is_empty()).then_some(missing)
    }

    /// The events to load next so that in the end all auth chains are complete.
    fn missing_in_chains(&mut self) -> Option<Vec<OwnedEventId>> {
        let mut waiting = Vec::new();
        while let Some(id) = self.open.pop() {
            if self.walked.contains(&id) {
                continue;
            }
            match self.events.get(&id) {
                Some(event) => {
                    self.open.extend(event.auth_events().iter().cloned());
                    self.walked.insert(id);
                }
                None => waiting.push(id),
            }
        }
        // What was asked for and did not come does not exist; the walk goes on without it.
        let missing = self.missing(waiting);
        self.open = missing.clone().unwrap_or_default();
        missing
    }

    /// The unconflicted keys that the algorithm may read or overwrite.
    fn keys_read(&self, full: &BTreeSet<OwnedEventId>) -> Vec<StateKey> {
        let conflicted: HashSet<_> = self.forks.iter().flat_map(|fork| fork.keys()).collect();
        // The mainline starts at the power levels.
        let mut keys = BTreeSet::from([("m.room.power_levels".into(), String::new())]);
        for event in full.iter().filter_map(|id| self.events.get(id)) {
            let (kind, state_key) = (event.event_type(), event.state_key());
            if let Some(state_key) = state_key {
                keys.insert((kind.to_string().into(), state_key.to_owned()));
            }
            // A malformed event is allowed by no state, so it reads none.
            let rules = &self.rules.authorization;
            let read = state_keys_to_check(kind, event.sender(), state_key, event.content(), rules);
            keys.extend(read.unwrap_or_default());
        }
        keys.into_iter().filter(|key| !conflicted.contains(key)).collect()
    }

    /// The create event that the room id names, in room versions where it does.
    fn create_id(&self, full: &BTreeSet<OwnedEventId>) -> Option<OwnedEventId> {
        if !self.rules.authorization.room_create_event_id_as_room_id {
            return None;
        }
        let event = full.iter().find_map(|id| self.events.get(id))?;
        EventId::parse(format!("${}", event.room_id().strip_sigil())).ok()
    }

    /// The auth events of the power levels event of the unconflicted state, of the one among
    /// those, and so on.
    fn missing_mainline(&mut self) -> Option<Vec<OwnedEventId>> {
        let key = ("m.room.power_levels".into(), String::new());
        let mut next = self.unconflicted.as_ref()?.get(&key).cloned();
        let mut seen = HashSet::new();
        while let Some(event) = next.take().and_then(|id| self.events.get(&id).cloned()) {
            if !seen.insert(event.event_id().to_owned()) {
                return None;
            }
            if let Some(missing) = self.missing(event.auth_events().iter().cloned()) {
                return Some(missing);
            }
            let is_levels = |id: &&OwnedEventId| {
                let event = self.events.get(*id);
                event.is_some_and(|event| event.is_state(&"m.room.power_levels".into(), ""))
            };
            next = event.auth_events().iter().find(is_levels).cloned();
        }
        None
    }

    fn resolve(&self, added: Added) -> Result<Resolution, ResolveError> {
        let unconflicted = self.unconflicted.clone().unwrap_or_default();
        let maps: Vec<HashMap<StateKey, OwnedEventId>> = self
            .forks
            .iter()
            .map(|fork| {
                let own = fork.iter().map(|(key, id)| (key.clone(), id.clone()));
                unconflicted.clone().into_iter().chain(own).collect()
            })
            .collect();
        // The difference against an empty chain is the whole of it: ruma takes out what all
        // chains contain.
        let chains = vec![added.difference.into_iter().collect(), EventIdSet::new()];
        let resolved = state_res::resolve(
            &self.rules.authorization,
            &self.algorithm,
            &maps,
            chains,
            |id| self.events.get(id).cloned(),
            |_| Some(added.subgraph.iter().cloned().collect()),
        )
        .map_err(|error| ResolveError::Events(error.to_string()))?;
        let conflicted = self.forks.iter().flat_map(|fork| fork.keys());
        let mut keys: BTreeMap<StateKey, Option<OwnedEventId>> =
            conflicted.map(|key| (key.clone(), None)).collect();
        for (key, id) in resolved {
            if !unconflicted.contains_key(&key) {
                keys.insert(key, Some(id));
            }
        }
        Ok(Resolution { keys })
    }
}
