//! A room while events are being added to it: where it stands, and what is not committed yet.
//!
//! A [`PendingRoom`] is either loaded from the database or starts empty. Events are added with
//! [`PendingRoom::propose`] and [`PendingRoom::receive`]; each builds on those before it. What a request adds lies
//! above what was kept of those before it, until [`PendingRoom::keep`] or [`PendingRoom::drop_added`]: a
//! request is done whole or not at all, and what it costs depends on what it adds. [`PendingRoom::batch`] is what has to
//! be written of all that was kept; after the commit [`PendingRoom::settle`] makes it the past. Whoever
//! fails to commit throws the room away and loads it anew.

pub(crate) mod apply;
pub(crate) mod checks;
pub(crate) mod given_state;
pub(crate) mod history;
pub(crate) mod ingest;
pub(crate) mod outliers;
mod policy;
mod power_levels;
pub(crate) mod propose;
pub(crate) mod push_candidates;
mod redactions;
pub(crate) mod resolution;
pub(crate) mod summary;
pub(crate) mod unread;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, StateKeyNid, StateNid, TypeNid, UserNid},
    ruma::{EventId, OwnedEventId},
    slot::slot_of,
};
use colonnade_rules::{auth::StateKey, policy::RoomPolicy, trie::NewState};
use colonnade_storage::rooms::{
    client_txns::ClientTxn,
    heads::{self, Head},
    persist::{self, Demand, NewEvent, NewRoom, Persisted},
    state::{Part, Pending},
    summaries::{self, Summary},
};

use crate::{Error, Result};
use crate::{
    pending_room::push_candidates::{Candidate, Levels},
    proposal::Sent,
    store::{Room, RoomEvent, Store},
};

/// Events of a state read at a time.
const PIECE: usize = 1_000;

/// Where the next event of a room goes, and what its counters say. Small: each request begins with a copy.
#[derive(Clone)]
pub(super) struct Tip {
    /// The current state; `None` before the first event.
    pub(super) state: Option<StateNid>,
    pub(super) extremities: Vec<EventNid>,
    pub(super) depth: i64,
    pub(super) last_pos: i64,
    pub(super) last_timeline_key: i64,
    pub(super) joined: i64,
    pub(super) invited: i64,
    pub(super) notif_seq: i64,
    pub(super) unthreaded_seq: i64,
    pub(super) highlight_seq: i64,
    pub(super) summary: Summary,
    pub(super) levels: Levels,
    pub(super) custom_rules: Option<(u64, Arc<[Candidate]>)>,
    /// The room's policy server, once it was looked for since the state changed.
    pub(super) policy: Option<Option<Arc<RoomPolicy>>>,
}

impl Tip {
    /// Before the first event.
    fn nowhere(summary: Summary) -> Self {
        Self {
            state: None,
            extremities: Vec::new(),
            depth: 0,
            last_pos: 0,
            last_timeline_key: 0,
            joined: 0,
            invited: 0,
            notif_seq: 0,
            unthreaded_seq: 0,
            highlight_seq: 0,
            summary,
            levels: Levels::default(),
            custom_rules: None,
            policy: None,
        }
    }
}

/// What is added to a room.
#[derive(Default)]
pub(super) struct Added {
    pub(super) fresh: HashMap<EventNid, Arc<RoomEvent>>,
    pub(super) fresh_ids: HashMap<OwnedEventId, EventNid>,
    pub(super) txns: HashMap<ClientTxn, Sent>,
    pub(super) states: Vec<NewState>,
    pub(super) events: Vec<NewEvent>,
    pub(super) redacted: Vec<Arc<RoomEvent>>,
    pub(super) summary_changed: bool,
    /// It lets guests in no more.
    pub(super) closed_to_guests: bool,
    /// What must hold when it is written.
    pub(super) demands: Vec<Demand>,
}

impl Added {
    /// Takes in what was added after it.
    fn extend(&mut self, later: Self) {
        self.fresh.extend(later.fresh);
        self.fresh_ids.extend(later.fresh_ids);
        self.txns.extend(later.txns);
        self.states.extend(later.states);
        self.events.extend(later.events);
        self.redacted.extend(later.redacted);
        self.summary_changed |= later.summary_changed;
        self.closed_to_guests |= later.closed_to_guests;
        self.demands.extend(later.demands);
    }
}

/// A room under construction.
pub(crate) struct PendingRoom {
    pub(super) room: Arc<Room>,
    /// Since which epoch this process has owned the room's slot, when the room was read.
    pub(super) ownership_epoch: i64,
    create: Option<NewRoom>,
    pub(super) tip: Tip,
    /// Where it stood before the request that is being done.
    kept_tip: Tip,
    pub(super) trie: Pending,
    kept: Added,
    /// What the request that is being done adds.
    pub(super) added: Added,
}

impl PendingRoom {
    /// Starts a room that does not exist yet.
    pub(super) fn empty(room: Arc<Room>, create: NewRoom, published: bool) -> Self {
        let tip = Tip::nowhere(Summary { published, ..summary::empty() });
        let mut pending = Self::at(room, 0, tip);
        pending.create = Some(create);
        pending.added.summary_changed = true;
        pending
    }

    /// Starts with a room of which nothing but outliers is known.
    fn unknown(room: Arc<Room>, ownership_epoch: i64) -> Self {
        let mut pending = Self::at(room, ownership_epoch, Tip::nowhere(summary::empty()));
        pending.added.summary_changed = true;
        pending
    }

    fn at(room: Arc<Room>, ownership_epoch: i64, tip: Tip) -> Self {
        Self {
            room,
            ownership_epoch,
            create: None,
            kept_tip: tip.clone(),
            tip,
            trie: Pending::default(),
            kept: Added::default(),
            added: Added::default(),
        }
    }

    /// Loads a room.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn load(store: &Store, room: Arc<Room>, ownership_epoch: i64) -> Result<Self> {
        let Some(head) = heads::head(&store.context.db, room.nid).await? else {
            return Ok(Self::unknown(room, ownership_epoch));
        };
        let stored = summaries::get(&store.context.db, room.nid).await?;
        let tip = Tip {
            state: Some(head.state),
            extremities: head.extremities,
            depth: head.depth,
            last_pos: head.last_pos,
            last_timeline_key: head.last_timeline_key,
            joined: head.joined,
            invited: head.invited,
            notif_seq: head.notif_seq,
            unthreaded_seq: head.unthreaded_seq,
            highlight_seq: head.highlight_seq,
            summary: stored.unwrap_or_else(summary::empty),
            levels: Levels::default(),
            custom_rules: None,
            policy: None,
        };
        Ok(Self::at(room, ownership_epoch, tip))
    }

    /// Keeps what a request added.
    pub(super) fn keep(&mut self) {
        self.kept.extend(std::mem::take(&mut self.added));
        self.trie.keep();
        self.kept_tip = self.tip.clone();
    }

    /// Drops what a request added.
    pub(super) fn drop_added(&mut self) {
        self.added = Added::default();
        self.trie.drop_added();
        self.tip = self.kept_tip.clone();
    }

    /// Adds a state: it is found from now on, and written with what is kept.
    pub(super) fn add_state(&mut self, new: &NewState) {
        self.trie.add(new);
        self.added.states.push(new.clone());
    }

    /// Tells whether the room does not exist yet.
    pub(super) fn is_new(&self) -> bool {
        self.create.is_some()
    }

    /// Returns what is to be written of what was kept; `None` if nothing is.
    pub(super) fn batch(&mut self) -> Result<Option<Arc<persist::Batch>>> {
        // What was demanded for nothing is not demanded.
        let demands = std::mem::take(&mut self.kept.demands);
        if self.kept.events.is_empty() {
            return Ok(None);
        }
        let tip = &self.kept_tip;
        if self.create.is_some() && tip.state.is_none() {
            return Err(Error::internal("write a room", NoState));
        }
        Ok(Some(Arc::new(persist::Batch {
            room: self.room.nid,
            slot: slot_of(self.room.room_id.as_str()),
            ownership_epoch: self.ownership_epoch,
            create: self.create.take(),
            states: std::mem::take(&mut self.kept.states),
            events: std::mem::take(&mut self.kept.events),
            head: tip.state.map(|state| Head {
                room: self.room.nid,
                last_pos: tip.last_pos,
                last_timeline_key: tip.last_timeline_key,
                state,
                extremities: tip.extremities.clone(),
                depth: tip.depth,
                joined: tip.joined,
                invited: tip.invited,
                notif_seq: tip.notif_seq,
                unthreaded_seq: tip.unthreaded_seq,
                highlight_seq: tip.highlight_seq,
            }),
            summary: self.kept.summary_changed.then(|| tip.summary.clone()),
            demands,
        })))
    }

    /// Takes note that a batch is committed.
    pub(super) fn settle(&mut self, store: &Store, batch: &persist::Batch, persisted: &Persisted) {
        store.states().committed(&batch.states);
        let positions: HashMap<_, _> = persisted.positions.iter().copied().collect();
        let Added { fresh, redacted, closed_to_guests, .. } = std::mem::take(&mut self.kept);
        let placed = |event: Arc<RoomEvent>| {
            let mut event = Arc::unwrap_or_clone(event);
            event.pos = positions.get(&event.nid).copied().or(event.pos);
            (event.nid, Arc::new(event))
        };
        let mut committed: HashMap<EventNid, Arc<RoomEvent>> =
            fresh.into_values().map(placed).collect();
        // A redacted event may be one of the fresh ones: then what is left of it counts.
        committed.extend(redacted.into_iter().map(placed));
        store.committed(committed.into_values());
        if let Some((_, last)) = persisted.positions.last() {
            self.tip.last_pos = *last;
        }
        if closed_to_guests {
            store.closed_to_guests.notify_one();
        }
        self.kept_tip = self.tip.clone();
        self.trie = Pending::default();
    }

    /// Returns the event a transaction id stands for, sent while it was pending.
    pub(super) fn sent_as(&self, txn: &ClientTxn) -> Option<Sent> {
        self.added.txns.get(txn).or_else(|| self.kept.txns.get(txn)).cloned()
    }

    /// Tells whether what is pending adds such an annotation.
    pub(super) fn annotates(
        &self,
        parent: EventNid,
        sender: UserNid,
        event_type: TypeNid,
        key: &str,
    ) -> bool {
        self.kept.events.iter().chain(&self.added.events).any(|event| {
            let relation = event.relation.as_ref().filter(|relation| relation.parent == parent);
            relation.is_some_and(|relation| relation.rel_type == "m.annotation")
                && (event.sender, event.event_type) == (sender, event_type)
                && relation.and_then(|relation| relation.key.as_deref()) == Some(key)
        })
    }

    /// Returns the events that hold these keys in a state, in the order of the keys; keys nobody
    /// holds are left out.
    pub(super) async fn look_up(
        &self,
        store: &Store,
        state: Option<StateNid>,
        keys: &[StateKey],
    ) -> Result<BTreeMap<StateKey, Arc<RoomEvent>>> {
        let Some(state) = state else { return Ok(BTreeMap::new()) };
        let mut found = BTreeMap::new();
        for part in [Part::Core, Part::Member] {
            let mut names: Vec<&StateKey> = Vec::with_capacity(keys.len());
            let mut state_key_nids: Vec<StateKeyNid> = Vec::with_capacity(keys.len());
            for key in keys.iter().filter(|key| Part::of(&key.0.to_string()) == part) {
                let state_key_nid =
                    store.context.interned.find_state_key_nid(&key.0.to_string(), &key.1).await?;
                if let Some(state_key_nid) = state_key_nid {
                    names.push(key);
                    state_key_nids.push(state_key_nid);
                }
            }
            let held = store.states().lookup_with(state, part, &state_key_nids, &self.trie).await?;
            for (key, nid) in names.into_iter().zip(held) {
                if let Some(nid) = nid {
                    found.insert(key.clone(), self.event(store, nid).await?);
                }
            }
        }
        Ok(found)
    }

    /// Returns an event, committed or not.
    pub(super) async fn event(&self, store: &Store, nid: EventNid) -> Result<Arc<RoomEvent>> {
        match self.fresh(nid) {
            Some(event) => Ok(Arc::clone(event)),
            None => Ok(store.events(&[nid]).await?.remove(0)),
        }
    }

    /// Tells whether an event is not committed yet.
    pub(super) fn is_fresh(&self, nid: EventNid) -> bool {
        self.fresh(nid).is_some()
    }

    /// Returns the events that are not committed yet.
    pub(super) fn fresh_events(&self) -> impl Iterator<Item = &Arc<RoomEvent>> {
        self.added.fresh.values().chain(self.kept.fresh.values())
    }

    fn fresh(&self, nid: EventNid) -> Option<&Arc<RoomEvent>> {
        self.added.fresh.get(&nid).or_else(|| self.kept.fresh.get(&nid))
    }

    /// Returns events, committed or not, in the order asked for.
    pub(super) async fn events_of(
        &self,
        store: &Store,
        nids: &[EventNid],
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let mut events = Vec::with_capacity(nids.len());
        for nid in nids {
            events.push(self.event(store, *nid).await?);
        }
        Ok(events)
    }

    /// Returns the local id of an event that is not committed yet.
    pub(super) fn fresh_id(&self, event_id: &EventId) -> Option<EventNid> {
        let fresh = self.added.fresh_ids.get(event_id);
        fresh.or_else(|| self.kept.fresh_ids.get(event_id)).copied()
    }

    /// Finds an event by its id, committed or not.
    pub(super) async fn find(
        &self,
        store: &Store,
        event_id: &EventId,
    ) -> Result<Option<Arc<RoomEvent>>> {
        match self.fresh_id(event_id) {
            Some(nid) => self.event(store, nid).await.map(Some),
            None => store.event_by_id(event_id).await,
        }
    }

    /// Finds an event that somebody hands over for this room.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when its id is that of another room's event: in the first versions servers choose
    /// ids, and the first event with one keeps it.
    pub(super) async fn find_own(
        &self,
        store: &Store,
        event_id: &EventId,
    ) -> Result<Option<Arc<RoomEvent>>> {
        let found = self.find(store, event_id).await?;
        match found.as_ref().is_some_and(|found| found.room != self.room.nid) {
            true => Err(MatrixError::invalid_param("another room has an event of this id").into()),
            false => Ok(found),
        }
    }
}

/// A room was to be written that has no events.
#[derive(Debug, thiserror::Error)]
#[error("a room without a state")]
pub(super) struct NoState;

#[cfg(test)]
mod tests;
