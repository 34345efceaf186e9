//! State resolution of room version 1 (Matrix v1.19, rooms, v1, §State resolution).
//!
//! The forks' states are united. Only a key under which they have different events is in conflict; one that some of
//! them lack is not. Conflicts are settled by pass: power levels, join rules, members, everything else. In the first
//! three the events of a key are tried from the lowest depth up, each by the state with the one before it, until one
//! is not allowed; of everything else the deepest wins that is allowed. Where the text leaves a choice this does what
//! Synapse and Dendrite do: what a pass settles counts from the next pass on, so that the order of keys does
//! not matter; and where nothing is allowed the lowest stays.
//!
//! What is asked for, and in this order:
//!
//! 1. [`Step::Events`], once: the events in conflict. One that cannot be found is left out.
//! 2. [`Step::Keys`], once: which events all forks have under the keys that authorization of those reads.
//! 3. [`Step::Events`], once: those events.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::ruma::{
    OwnedEventId,
    events::StateEventType,
    room_version_rules::{AuthorizationRules, RoomVersionRules},
};
use sha1::{Digest as _, Sha1};

use super::step::{ForkEntries, Resolution, Step};
use crate::{
    auth::{StateKey, check_by_state, state_keys_to_check},
    event::Event,
};

/// The events under conflicted keys.
type Conflicts = BTreeMap<StateKey, Vec<Arc<Event>>>;

/// A resolution under way.
#[derive(Debug)]
pub(super) struct First {
    rules: AuthorizationRules,
    /// Keys under which all forks that have them have the same event.
    agreed: BTreeMap<StateKey, OwnedEventId>,
    conflicting: BTreeMap<StateKey, BTreeSet<OwnedEventId>>,
    events: HashMap<OwnedEventId, Arc<Event>>,
    /// Events asked for. One that is not in `events` does not exist.
    asked: HashSet<OwnedEventId>,
    /// The answer to [`Step::Keys`].
    unconflicted: Option<HashMap<StateKey, OwnedEventId>>,
}

impl First {
    pub(super) fn new(forks: Vec<ForkEntries>, rules: &RoomVersionRules) -> Self {
        let mut conflicting: BTreeMap<StateKey, BTreeSet<OwnedEventId>> = BTreeMap::new();
        for (key, id) in forks.into_iter().flatten() {
            conflicting.entry(key).or_default().insert(id);
        }
        let mut agreed = BTreeMap::new();
        conflicting.retain(|key, ids| {
            let is_conflict = ids.len() > 1;
            if let (false, Some(id)) = (is_conflict, ids.first()) {
                agreed.insert(key.clone(), id.clone());
            }
            is_conflict
        });
        Self {
            rules: rules.authorization.clone(),
            agreed,
            conflicting,
            events: HashMap::new(),
            asked: HashSet::new(),
            unconflicted: None,
        }
    }

    pub(super) fn add_events(&mut self, events: impl IntoIterator<Item = Arc<Event>>) {
        let by_id = |event: Arc<Event>| (event.event_id().to_owned(), event);
        self.events.extend(events.into_iter().map(by_id));
    }

    pub(super) fn add_keys(&mut self, keys: impl IntoIterator<Item = (StateKey, OwnedEventId)>) {
        self.unconflicted = Some(keys.into_iter().collect());
    }

    pub(super) fn step(&mut self) -> Step {
        let conflicting: Vec<_> = self.conflicting.values().flatten().cloned().collect();
        if let Some(missing) = self.missing(conflicting) {
            return Step::Events(missing);
        }
        let read = self.keys_read();
        let Some(unconflicted) = &self.unconflicted else {
            let known = |key: &StateKey| {
                self.agreed.contains_key(key) || self.conflicting.contains_key(key)
            };
            return Step::Keys(read.into_iter().filter(|key| !known(key)).collect());
        };
        let held = |key: &StateKey| self.agreed.get(key).or_else(|| unconflicted.get(key));
        let before: BTreeMap<StateKey, OwnedEventId> =
            read.iter().filter_map(|key| Some((key.clone(), held(key)?.clone()))).collect();
        if let Some(missing) = self.missing(before.values().cloned()) {
            return Step::Events(missing);
        }
        Step::Done(self.resolve(&before))
    }

    /// The events among these that were neither given nor asked for. They are asked for now.
    fn missing(
        &mut self,
        ids: impl IntoIterator<Item = OwnedEventId>,
    ) -> Option<Vec<OwnedEventId>> {
        let unknown = |id: &OwnedEventId| !self.events.contains_key(id) && !self.asked.contains(id);
        let missing: BTreeSet<_> = ids.into_iter().filter(unknown).collect();
        self.asked.extend(missing.iter().cloned());
        (!missing.is_empty()).then(|| missing.into_iter().collect())
    }

    /// The keys that authorization of the events in conflict reads.
    fn keys_read(&self) -> BTreeSet<StateKey> {
        let mut keys = BTreeSet::new();
        let conflicting = self.conflicting.values().flatten();
        for event in conflicting.filter_map(|id| self.events.get(id)) {
            let (kind, state_key) = (event.event_type(), event.state_key());
            // A malformed event is allowed by no state, so it reads none.
            let (sender, content) = (event.sender(), event.content());
            let read = state_keys_to_check(kind, sender, state_key, content, &self.rules);
            keys.extend(read.unwrap_or_default());
        }
        keys
    }

    fn resolve(&self, before: &BTreeMap<StateKey, OwnedEventId>) -> Resolution {
        let known = |(key, id): (&StateKey, &OwnedEventId)| {
            Some((key.clone(), Arc::clone(self.events.get(id)?)))
        };
        let mut resolved: BTreeMap<StateKey, Arc<Event>> =
            before.iter().filter_map(known).collect();
        let mut others: Conflicts = BTreeMap::new();
        for (key, ids) in &self.conflicting {
            let mut events: Vec<_> =
                ids.iter().filter_map(|id| self.events.get(id)).cloned().collect();
            // Ascending by depth, then descending by the hash of the id.
            events.sort_by_cached_key(|event| {
                (event.depth(), Reverse(Sha1::digest(event.event_id().as_str())))
            });
            others.insert(key.clone(), events);
        }
        let mut keys: BTreeMap<StateKey, Option<OwnedEventId>> =
            self.agreed.iter().map(|(key, id)| (key.clone(), Some(id.clone()))).collect();
        keys.extend(others.keys().map(|key| (key.clone(), None)));

        let is_levels =
            |key: &StateKey| key.0 == StateEventType::RoomPowerLevels && key.1.is_empty();
        let is_join_rules = |key: &StateKey| key.0 == StateEventType::RoomJoinRules;
        let is_member = |key: &StateKey| key.0 == StateEventType::RoomMember;
        let mut settled: Vec<(StateKey, Arc<Event>)> = Vec::new();
        let passes: [&dyn Fn(&StateKey) -> bool; 3] = [&is_levels, &is_join_rules, &is_member];
        for is_now in passes {
            let now: Conflicts = others.extract_if(.., |key, _| is_now(key)).collect();
            let winner = |(key, events)| Some((key, self.last_allowed(&resolved, events)?));
            let winners: Vec<_> = now.into_iter().filter_map(winner).collect();
            resolved.extend(winners.iter().cloned());
            settled.extend(winners);
        }
        let winner = |(key, events)| Some((key, self.deepest_allowed(&resolved, events)?));
        settled.extend(others.into_iter().filter_map(winner));
        keys.extend(settled.into_iter().map(|(key, e)| (key, Some(e.event_id().to_owned()))));
        Resolution { keys }
    }

    /// Goes up from the lowest event as long as each is allowed by the state with the one before it.
    fn last_allowed(
        &self,
        state: &BTreeMap<StateKey, Arc<Event>>,
        events: Vec<Arc<Event>>,
    ) -> Option<Arc<Event>> {
        let mut events = events.into_iter();
        let mut last = events.next()?;
        for event in events {
            let held = |kind: &StateEventType, key: &str| {
                if last.is_state(&kind.to_string().into(), key) {
                    return Some(Arc::clone(&last));
                }
                state.get(&(kind.clone(), key.to_owned())).cloned()
            };
            if check_by_state(&event, &self.rules, held).is_err() {
                break;
            }
            last = event;
        }
        Some(last)
    }

    /// Goes down from the deepest event to the first that is allowed.
    fn deepest_allowed(
        &self,
        state: &BTreeMap<StateKey, Arc<Event>>,
        events: Vec<Arc<Event>>,
    ) -> Option<Arc<Event>> {
        let held =
            |kind: &StateEventType, key: &str| state.get(&(kind.clone(), key.to_owned())).cloned();
        let is_allowed = |event: &&Arc<Event>| check_by_state(event, &self.rules, held).is_ok();
        events.iter().rev().find(is_allowed).or(events.first()).cloned()
    }
}
