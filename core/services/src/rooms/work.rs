//! A room while events are being added to it: where it stands, and what is not committed yet.
//!
//! A [`Work`] is either loaded from the database or starts empty. Events are added with
//! [`Work::propose`] and [`Work::receive`]; each builds on those before it. [`Work::batch`] is what
//! has to be written; after the commit [`Work::settle`] makes it the past. Whoever fails to commit
//! throws the work away and loads it anew: nothing here is ever undone.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, SkeyNid, StateNid, TypeNid, UserNid},
    ruma::{
        CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedUserId, UInt,
        events::TimelineEventType,
    },
    slot::slot_of,
};
use colonnade_rules::{
    auth::{StateKey, state_keys_to_check},
    event::{Draft, DraftError, Event, depth_after},
    trie::NewState,
};
use colonnade_storage::rooms::{
    client_txns::ClientTxn,
    heads::Head,
    persist::{self, Demand, NewEvent, NewRoom, Persisted},
    state::{Part, Pending},
    summaries::{self, Summary},
};
use serde_json::value::to_raw_value;

use super::{
    change::{CHANGED_MEANWHILE, Over},
    ingest,
    store::{Room, RoomEvent, Store},
    summary,
    unread::{Candidate, Levels},
};
use crate::{Error, Result};

mod add;

pub(crate) use add::RelatesTo;

/// Extremities a new event follows at most; what is left is followed by the next one. The
/// specification allows 20; fewer keep state resolution small.
const PREVS_MAX: usize = 10;

/// An event somebody on this server wants to send.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    /// Who.
    pub(crate) sender: OwnedUserId,
    /// Its type.
    pub(crate) event_type: TimelineEventType,
    /// Its state key, for a state event.
    pub(crate) state_key: Option<String>,
    /// Its content.
    pub(crate) content: CanonicalJsonObject,
    /// What it redacts.
    pub(crate) redacts: Option<OwnedEventId>,
    /// The client's name for the request.
    pub(crate) txn: Option<ClientTxn>,
    /// What it was made from, for a state event that changes the one before it; `None`: whatever.
    pub(crate) over: Option<Over>,
}

/// An event that was sent, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its local id.
    pub nid: EventNid,
}

/// A room under construction.
#[derive(Clone)]
pub(crate) struct Work {
    pub(super) room: Arc<Room>,
    /// Since which epoch this process has owned the room's slot, when the room was read.
    pub(super) tenure: i64,
    /// The current state; `None` before the first event.
    pub(super) state: Option<StateNid>,
    pub(super) extremities: Vec<EventNid>,
    depth: i64,
    last_pos: i64,
    last_tl: i64,
    pub(super) joined: i64,
    invited: i64,
    notif_seq: i64,
    main_seq: i64,
    hl_seq: i64,
    summary: Summary,
    pub(super) levels: Levels,
    pub(super) customs: Option<(u64, Arc<[Candidate]>)>,
    // What is not committed.
    pub(super) pending: Pending,
    fresh: HashMap<EventNid, Arc<RoomEvent>>,
    fresh_ids: HashMap<OwnedEventId, EventNid>,
    txns: HashMap<ClientTxn, Sent>,
    create: Option<NewRoom>,
    states: Vec<NewState>,
    events: Vec<NewEvent>,
    redacted: Vec<Arc<RoomEvent>>,
    summary_changed: bool,
    /// What must hold when it is written.
    pub(super) demands: Vec<Demand>,
}

impl Work {
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

    /// Adds an event of a user of this server, allowed by the current state.
    ///
    /// A state event that changes nothing is not sent again: the current one is the answer.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when it is not allowed, `M_BAD_JSON` and `M_TOO_LARGE` when it cannot be.
    pub(super) async fn propose(&mut self, store: &Store, proposal: Proposal) -> Result<Sent> {
        let rules = &self.room.rules;
        let bad = |why: &dyn std::fmt::Display| MatrixError::bad_json(why.to_string());
        let raw = to_raw_value(&proposal.content).map_err(|error| bad(&error))?;
        let keys = state_keys_to_check(
            &proposal.event_type,
            &proposal.sender,
            proposal.state_key.as_deref(),
            &raw,
            &rules.authorization,
        )
        .map_err(|rejection| bad(&rejection.why))?;
        let prevs = self.prevs();
        let state_before = match prevs.len() == self.extremities.len() {
            true => self.state,
            false => Some(self.state_after_all(store, &prevs).await?),
        };
        let allowing = self.look_up(store, state_before, &keys).await?;
        self.require_unchanged(store, state_before, &proposal).await?;
        if let Some(same) = self.same_state(store, state_before, &proposal, raw.get()).await? {
            return Ok(same);
        }
        let previous = self.events_of(store, &prevs).await?;
        let depth = depth_after(previous.iter().map(|event| event.event.depth()));
        let now = UInt::try_from(store.context.now_ms()).unwrap_or_default();
        let draft = Draft {
            room_id: Some(self.room.room_id.clone()),
            sender: proposal.sender,
            event_type: proposal.event_type,
            state_key: proposal.state_key,
            content: proposal.content,
            prev_events: previous.iter().map(|event| event.event.event_id().to_owned()).collect(),
            auth_events: allowing.values().map(|e| e.event.event_id().to_owned()).collect(),
            depth,
            origin_server_ts: MilliSecondsSinceUnixEpoch(now),
            redacts: proposal.redacts,
        };
        let event = sign(store, draft, &self.room)?;
        let admitted = ingest::local(self, store, event, prevs, state_before, &allowing).await?;
        self.add(store, admitted, proposal.txn).await
    }

    /// Adds the create event of a new room, which was made before its id was known.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when no room can begin with it.
    pub(super) async fn begin(&mut self, store: &Store, create: Event) -> Result<Sent> {
        let nothing = BTreeMap::new();
        let admitted = ingest::local(self, store, create, Vec::new(), None, &nothing).await?;
        self.add(store, admitted, None).await
    }

    /// Adds an event that exists already, as a peer sends it. What it follows and what allows it
    /// must be known.
    ///
    /// # Errors
    /// When something it refers to is not known, or the database fails. A rejected or soft-failed
    /// event is stored and no error.
    pub(super) async fn receive(&mut self, store: &Store, event: Event) -> Result<Sent> {
        if let Some(known) = self.find(store, event.event_id()).await? {
            return Ok(Sent { event_id: event.event_id().to_owned(), nid: known.nid });
        }
        let admitted = ingest::received(self, store, event).await?;
        self.add(store, admitted, None).await
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

    /// Returns the extremities that the next event follows.
    fn prevs(&self) -> Vec<EventNid> {
        let mut prevs = self.extremities.clone();
        prevs.sort_unstable();
        prevs.split_off(prevs.len().saturating_sub(PREVS_MAX))
    }

    /// Refuses a proposal that was made from something else than what stands there.
    async fn require_unchanged(
        &self,
        store: &Store,
        state: Option<StateNid>,
        proposal: &Proposal,
    ) -> Result<()> {
        let (Some(over), Some(state_key)) = (&proposal.over, &proposal.state_key) else {
            return Ok(());
        };
        let key: StateKey = (proposal.event_type.to_string().into(), state_key.clone());
        let current = self.look_up(store, state, std::slice::from_ref(&key)).await?;
        if over.is(current.get(&key)) {
            return Ok(());
        }
        let why = "somebody else changed this at the same time; try again";
        Err(MatrixError::unknown(why).with_status(CHANGED_MEANWHILE).into())
    }

    /// Returns the current event if the proposal would only repeat it.
    async fn same_state(
        &self,
        store: &Store,
        state: Option<StateNid>,
        proposal: &Proposal,
        content: &str,
    ) -> Result<Option<Sent>> {
        let Some(state_key) = &proposal.state_key else { return Ok(None) };
        let key: StateKey = (proposal.event_type.to_string().into(), state_key.clone());
        let current = self.look_up(store, state, std::slice::from_ref(&key)).await?;
        let same = current.get(&key).filter(|current| {
            current.event.sender() == proposal.sender && current.event.content().get() == content
        });
        Ok(same.map(|same| Sent { event_id: same.event.event_id().to_owned(), nid: same.nid }))
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

/// Signs a draft with this server's key.
pub(super) fn sign(store: &Store, draft: Draft, room: &Room) -> Result<Event> {
    let context = &store.context;
    let signed = draft.sign(&context.server_name, context.signing_key.as_ref(), &room.rules);
    Ok(signed.map_err(draft_error)?)
}

/// Turns what is wrong with a draft into what the client is told.
pub(crate) fn draft_error(error: DraftError) -> MatrixError {
    match error {
        DraftError::TooLarge { .. } | DraftError::FieldTooLong { .. } => {
            MatrixError::too_large(error.to_string())
        }
        DraftError::Malformed(why) => MatrixError::bad_json(why),
    }
}

/// A room was to be written that has no events.
#[derive(Debug, thiserror::Error)]
#[error("a room without a state")]
struct NoState;
