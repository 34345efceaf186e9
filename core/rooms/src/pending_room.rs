//! A room while events are being added to it: where it stands, and what is not committed yet.
//!
//! A [`PendingRoom`] is either loaded from the database or starts empty. Events are added with
//! [`PendingRoom::propose`] and [`PendingRoom::receive`]; each builds on those before it. [`PendingRoom::batch`] is what
//! has to be written; after the commit [`PendingRoom::settle`] makes it the past. Whoever fails to commit
//! throws the work away and loads it anew: nothing here is ever undone.

pub(crate) mod apply;
pub(crate) mod checks;
pub(crate) mod ingest;
pub(crate) mod propose;
pub(crate) mod push_candidates;
pub(crate) mod resolution;
pub(crate) mod summary;
pub(crate) mod unread;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::{
    nid::{EventNid, SkeyNid, StateNid, TypeNid, UserNid},
    ruma::OwnedEventId,
    slot::slot_of,
};
use colonnade_rules::{auth::StateKey, trie::NewState};
use colonnade_storage::rooms::{
    client_txns::ClientTxn,
    heads::Head,
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

/// A room under construction.
#[derive(Clone)]
pub(crate) struct PendingRoom {
    pub(super) room: Arc<Room>,
    /// Since which epoch this process has owned the room's slot, when the room was read.
    pub(super) tenure: i64,
    /// The current state; `None` before the first event.
    pub(super) state: Option<StateNid>,
    pub(super) extremities: Vec<EventNid>,
    pub(super) depth: i64,
    pub(super) last_pos: i64,
    pub(super) last_tl: i64,
    pub(super) joined: i64,
    pub(super) invited: i64,
    pub(super) notif_seq: i64,
    pub(super) main_seq: i64,
    pub(super) hl_seq: i64,
    pub(super) summary: Summary,
    pub(super) levels: Levels,
    pub(super) customs: Option<(u64, Arc<[Candidate]>)>,
    // What is not committed.
    pub(super) pending: Pending,
    pub(super) fresh: HashMap<EventNid, Arc<RoomEvent>>,
    pub(super) fresh_ids: HashMap<OwnedEventId, EventNid>,
    pub(super) txns: HashMap<ClientTxn, Sent>,
    pub(super) create: Option<NewRoom>,
    pub(super) states: Vec<NewState>,
    pub(super) events: Vec<NewEvent>,
    pub(super) redacted: Vec<Arc<RoomEvent>>,
    pub(super) summary_changed: bool,
    /// What must hold when it is written.
    pub(super) demands: Vec<Demand>,
}

impl PendingRoom {
    /// Starts a room that does not exist yet.
    pub(super) fn empty(room: Arc<Room>, create: NewRoom, published: bool) -> Self {
        let summary = Summary { published, ..summary::empty() };
        Self { summary, summary_changed: true, create: Some(create), ..Self::blank(room) }
    }

    fn blank(room: Arc<Room>) -> Self {
        Self {
            room,
            tenure: 0,
            state: None,
            extremities: Vec::new(),
            depth: 0,
            last_pos: 0,
            last_tl: 0,
            joined: 0,
            invited: 0,
            notif_seq: 0,
            main_seq: 0,
            hl_seq: 0,
            summary: summary::empty(),
            levels: Levels::default(),
            customs: None,
            pending: Pending::default(),
            fresh: HashMap::new(),
            fresh_ids: HashMap::new(),
            txns: HashMap::new(),
            create: None,
            states: Vec::new(),
            events: Vec::new(),
            redacted: Vec::new(),
            summary_changed: false,
            demands: Vec::new(),
        }
    }

    /// Loads a room.
    ///
    /// # Errors
    /// When the database fails or the room has no events.
    pub(super) async fn load(store: &Store, room: Arc<Room>, tenure: i64) -> Result<Self> {
        let head = store.head(room.nid).await?;
        let stored = summaries::get(&store.context.db, room.nid).await?;
        Ok(Self {
            tenure,
            state: Some(head.state),
            extremities: head.extremities,
            depth: head.depth,
            last_pos: head.last_pos,
            last_tl: head.last_tl,
            joined: head.joined,
            invited: head.invited,
            notif_seq: head.notif_seq,
            main_seq: head.main_seq,
            hl_seq: head.hl_seq,
            summary: stored.unwrap_or_else(summary::empty),
            ..Self::blank(room)
        })
    }

    /// Tells whether the room does not exist yet.
    pub(super) fn is_new(&self) -> bool {
        self.create.is_some()
    }

    /// Tells whether there is nothing to write.
    pub(super) fn is_clean(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns what is to be written.
    pub(super) fn batch(&self) -> Result<persist::Batch> {
        let state = self.state.ok_or_else(|| Error::internal("write a room", NoState))?;
        Ok(persist::Batch {
            room: self.room.nid,
            slot: slot_of(self.room.room_id.as_str()),
            tenure: self.tenure,
            create: self.create.clone(),
            states: self.states.clone(),
            events: self.events.clone(),
            head: Head {
                room: self.room.nid,
                last_pos: self.last_pos,
                last_tl: self.last_tl,
                state,
                extremities: self.extremities.clone(),
                depth: self.depth,
                joined: self.joined,
                invited: self.invited,
                notif_seq: self.notif_seq,
                main_seq: self.main_seq,
                hl_seq: self.hl_seq,
            },
            summary: self.summary_changed.then(|| self.summary.clone()),
            demands: self.demands.clone(),
        })
    }

    /// Takes note that everything is committed.
    pub(super) fn settle(&mut self, store: &Store, persisted: &Persisted) {
        store.states().committed(&self.states);
        let positions: HashMap<_, _> = persisted.positions.iter().copied().collect();
        let placed = self.fresh.drain().map(|(nid, event)| {
            let pos = positions.get(&nid).copied();
            let mut event = Arc::unwrap_or_clone(event);
            event.pos = pos.or(event.pos);
            Arc::new(event)
        });
        // A redacted event may be one of the fresh ones: then what is left of it counts.
        let mut committed: HashMap<EventNid, Arc<RoomEvent>> =
            placed.map(|event| (event.nid, event)).collect();
        for event in self.redacted.drain(..) {
            let mut event = Arc::unwrap_or_clone(event);
            event.pos = positions.get(&event.nid).copied().or(event.pos);
            committed.insert(event.nid, Arc::new(event));
        }
        store.committed(committed.into_values());
        if let Some((_, last)) = persisted.positions.last() {
            self.last_pos = *last;
        }
        self.pending = Pending::default();
        self.fresh_ids.clear();
        self.txns.clear();
        self.create = None;
        self.states.clear();
        self.events.clear();
        self.demands.clear();
        self.summary_changed = false;
    }

    /// Returns the event a transaction id stands for, sent in this work.
    pub(super) fn sent_as(&self, txn: &ClientTxn) -> Option<Sent> {
        self.txns.get(txn).cloned()
    }

    /// Tells whether this work adds such an annotation.
    pub(super) fn annotates(
        &self,
        parent: EventNid,
        sender: UserNid,
        event_type: TypeNid,
        key: &str,
    ) -> bool {
        self.events.iter().any(|event| {
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
            let mut skeys: Vec<SkeyNid> = Vec::with_capacity(keys.len());
            for key in keys.iter().filter(|key| Part::of(&key.0.to_string()) == part) {
                let skey = store.context.interned.find_skey(&key.0.to_string(), &key.1).await?;
                if let Some(skey) = skey {
                    names.push(key);
                    skeys.push(skey);
                }
            }
            let held = store.states().lookup_with(state, part, &skeys, &self.pending).await?;
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
        match self.fresh.get(&nid) {
            Some(event) => Ok(Arc::clone(event)),
            None => Ok(store.events(&[nid]).await?.remove(0)),
        }
    }

    /// Tells whether an event is not committed yet.
    pub(super) fn is_fresh(&self, nid: EventNid) -> bool {
        self.fresh.contains_key(&nid)
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

    /// Finds an event by its id, committed or not.
    pub(super) async fn find(
        &self,
        store: &Store,
        event_id: &colonnade_model::ruma::EventId,
    ) -> Result<Option<Arc<RoomEvent>>> {
        match self.fresh_ids.get(event_id) {
            Some(nid) => self.event(store, *nid).await.map(Some),
            None => store.event_by_id(event_id).await,
        }
    }
}

/// A room was to be written that has no events.
#[derive(Debug, thiserror::Error)]
#[error("a room without a state")]
pub(super) struct NoState;
