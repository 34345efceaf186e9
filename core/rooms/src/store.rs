//! Reading rooms: rooms, events and states by id, from memory or from the database. Everything here
//! is committed; what a room is about to become lives in [`crate::pending_room`].

pub(crate) mod custom_push_rules;
pub(crate) mod graph;
pub(crate) mod lookup;
pub(crate) mod server_visibility;
pub(crate) mod stripped;
pub(crate) mod viewpoint;
pub(crate) mod visibility;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::{
    MatrixError,
    nid::{EventNid, RoomNid, StateKeyNid, StateNid, TypeNid, UserNid},
    ruma::{
        EventId, OwnedRoomId, RoomId, RoomVersionId, UserId, room_version_rules::RoomVersionRules,
    },
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
    versions,
};
use colonnade_replication::Subscriber;
use colonnade_rules::{event::Event, push::PushOutcome};
use colonnade_storage::{
    StorageError,
    database::metrics::CacheFigures,
    rooms::{
        events::{self, EventFlags, StoredEvent},
        heads::{self, Head, RoomRow},
        members::{self, Member, Membership},
        state::{Part, States},
    },
};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use tokio::sync::Notify;

use crate::store::custom_push_rules::CustomPushRules;
use crate::{Context, Error, Result};

/// Rooms kept in memory, about 500 bytes each.
const ROOMS_MAX: usize = 20_000;
/// Memory for parsed events.
const EVENTS_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// About how many bytes an event takes, to size the cache's table.
const EVENT_BYTES: u64 = 2_000;

/// A room and the rules of its version.
#[derive(Debug)]
pub struct Room {
    /// Its local id.
    pub nid: RoomNid,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// What its version says.
    pub rules: RoomVersionRules,
}

/// An event of a room, with what is known about it here.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// Its local id.
    pub nid: EventNid,
    /// Its room.
    pub room: RoomNid,
    /// The event; what redaction left of it, if it is redacted.
    pub event: Arc<Event>,
    /// Who sent it.
    pub sender: UserNid,
    /// Its type.
    pub event_type: TypeNid,
    /// Its type and state key, if it is a state event.
    pub state_key_nid: Option<StateKeyNid>,
    /// What else is known.
    pub flags: EventFlags,
    /// The state before it; `None` for a create event and for an outlier.
    pub state_before: Option<StateNid>,
    /// The state after it; `None` for an outlier.
    pub state_after: Option<StateNid>,
    /// Its place in the timeline; `None` if clients do not see it there.
    pub timeline_key: Option<i64>,
    /// Its position in the events stream; `None` if it never was live.
    pub pos: Option<Position>,
    /// The root of the thread it is in.
    pub thread: Option<EventNid>,
    /// What it means to users with the default push rules.
    pub outcome: PushOutcome,
}

impl RoomEvent {
    /// Tells whether it is an outlier that may yet become part of the room. One that its auth events do
    /// not allow never does, and neither does a membership that was shown already.
    pub(crate) fn waits_outside(&self) -> bool {
        let rejected = self.flags.has(EventFlags::REJECTED);
        self.flags.has(EventFlags::OUTLIER) && !rejected && self.pos.is_none()
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<EventNid, Arc<RoomEvent>> for ByBytes {
    fn weight(&self, _: &EventNid, event: &Arc<RoomEvent>) -> u64 {
        (event.event.weight() + size_of::<RoomEvent>()) as u64
    }
}

/// The rooms of the database, and what of them is in memory.
pub struct Store {
    pub(crate) context: Arc<Context>,
    pub(super) own_rules: CustomPushRules,
    states: States,
    rooms: Cache<OwnedRoomId, Arc<Room>>,
    by_nid: Cache<RoomNid, Arc<Room>>,
    events: Cache<EventNid, Arc<RoomEvent>, ByBytes>,
    /// Told when a room lets guests in no more.
    pub(crate) closed_to_guests: Notify,
    /// Counts the changes of events (redactions): a reader that began before one must not put the
    /// event it read into the cache.
    changes: Mutex<u64>,
}

impl Store {
    pub(super) fn new(context: Arc<Context>) -> Self {
        let states = States::new(context.db.clone(), context.digest_key);
        let events_max = (EVENTS_BYTES_MAX / EVENT_BYTES) as usize;
        Self {
            own_rules: CustomPushRules::default(),
            states,
            context,
            rooms: Cache::new(ROOMS_MAX),
            by_nid: Cache::new(ROOMS_MAX),
            events: Cache::with_weighter(events_max, EVENTS_BYTES_MAX, ByBytes),
            closed_to_guests: Notify::new(),
            changes: Mutex::new(0),
        }
    }

    /// Returns how well the caches do.
    pub fn figures(&self) -> Vec<CacheFigures> {
        vec![CacheFigures::of("rooms", &self.rooms), CacheFigures::of("events", &self.events)]
    }

    /// Returns the room states.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// Finds a room by its id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        if let Some(room) = self.rooms.get(room_id) {
            return Ok(Some(room));
        }
        let row = heads::find(&self.context.db, room_id).await?;
        row.map(|row| self.remember_room(row)).transpose()
    }

    /// Returns a room by its local id.
    ///
    /// # Errors
    /// When the database fails or has no such room.
    pub async fn room(&self, nid: RoomNid) -> Result<Arc<Room>> {
        if let Some(room) = self.by_nid.get(&nid) {
            return Ok(room);
        }
        let row = heads::get(&self.context.db, nid).await?;
        let missing = || StorageError::corrupt("rooms", "room_nid", nid, "no such row");
        self.remember_room(row.ok_or_else(missing)?)
    }

    /// Returns many rooms, in the order asked for; those that do not exist are left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rooms(&self, nids: &[RoomNid]) -> Result<Vec<Arc<Room>>> {
        let unknown = nids.iter().copied().filter(|nid| self.by_nid.get(nid).is_none());
        let unknown: Vec<RoomNid> = unknown.collect();
        let mut fresh = HashMap::new();
        if !unknown.is_empty() {
            for row in heads::many(&self.context.db, &unknown).await? {
                fresh.insert(row.nid, self.remember_room(row)?);
            }
        }
        let known = |nid: &RoomNid| fresh.get(nid).cloned().or_else(|| self.by_nid.get(nid));
        Ok(nids.iter().filter_map(known).collect())
    }

    /// Not kept: others see a room once it stands somewhere.
    fn parse_room(&self, row: RoomRow) -> Result<Arc<Room>> {
        let unknown = || StorageError::corrupt("rooms", "version", row.nid, "not supported here");
        let rules = versions::rules(&row.version).ok_or_else(unknown)?;
        Ok(Arc::new(Room { nid: row.nid, room_id: row.room_id, version: row.version, rules }))
    }

    fn remember_room(&self, row: RoomRow) -> Result<Arc<Room>> {
        let room = self.parse_room(row)?;
        self.rooms.insert(room.room_id.clone(), Arc::clone(&room));
        self.by_nid.insert(room.nid, Arc::clone(&room));
        Ok(room)
    }

    /// Returns where a room stands.
    ///
    /// # Errors
    /// When the database fails or the room has no events.
    pub async fn head(&self, room: RoomNid) -> Result<Head> {
        let missing = || StorageError::corrupt("room_heads", "room_nid", room, "no such row");
        Ok(heads::head(&self.context.db, room).await?.ok_or_else(missing)?)
    }

    /// Returns a user's membership row of a room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn member(&self, room: RoomNid, user: UserNid) -> Result<Option<Member>> {
        Ok(members::get(&self.context.db, room, user).await?)
    }

    /// Returns a user's current membership of a room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn membership(&self, room: RoomNid, user: UserNid) -> Result<Option<Membership>> {
        Ok(self.member(room, user).await?.map(|member| member.membership))
    }

    /// Returns a room in which the user is joined.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user is not, or the room does not exist: a stranger is not told which.
    pub async fn joined_room(&self, room_id: &RoomId, user: UserNid) -> Result<Arc<Room>> {
        Ok(self.joined_member(room_id, user).await?.0)
    }

    /// Returns a room in which the user is joined, and the membership.
    ///
    /// # Errors
    /// As [`Store::joined_room`].
    pub async fn joined_member(
        &self,
        room_id: &RoomId,
        user: UserNid,
    ) -> Result<(Arc<Room>, Member)> {
        if let Some(room) = self.find(room_id).await?
            && let Some(member) = self.member(room.nid, user).await?
            && member.membership == Membership::Join
        {
            return Ok((room, member));
        }
        Err(MatrixError::forbidden("you are not a member of this room").into())
    }

    /// Returns an event by its local id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn event(&self, nid: EventNid) -> Result<Option<Arc<RoomEvent>>> {
        if let Some(event) = self.events.get(&nid) {
            return Ok(Some(event));
        }
        let changes = *self.changes.lock();
        match events::get(&self.context.db, nid).await? {
            Some(stored) => self.remember(stored, changes).await.map(Some),
            None => Ok(None),
        }
    }

    /// Returns many events, in the order asked for.
    ///
    /// # Errors
    /// When the database fails or lacks one of them.
    pub async fn events(&self, nids: &[EventNid]) -> Result<Vec<Arc<RoomEvent>>> {
        let mut known = HashMap::with_capacity(nids.len());
        let mut unknown = Vec::new();
        for nid in nids {
            match self.events.get(nid) {
                Some(event) => {
                    known.insert(*nid, event);
                }
                None => unknown.push(*nid),
            }
        }
        if !unknown.is_empty() {
            let changes = *self.changes.lock();
            for stored in events::many(&self.context.db, &unknown).await? {
                known.insert(stored.nid, self.remember(stored, changes).await?);
            }
        }
        let missing = |nid: &EventNid| {
            Error::from(StorageError::corrupt("events", "event_nid", nid, "no such row"))
        };
        nids.iter().map(|nid| known.get(nid).cloned().ok_or_else(|| missing(nid))).collect()
    }

    /// Returns an event by its id, whoever may see it: for the rooms' own pending. What a user names is
    /// looked up by [`Store::seen`].
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn event_by_id(&self, event_id: &EventId) -> Result<Option<Arc<RoomEvent>>> {
        let changes = *self.changes.lock();
        match events::find(&self.context.db, event_id).await? {
            Some(stored) => self.remember(stored, changes).await.map(Some),
            None => Ok(None),
        }
    }

    /// Parses stored events, as read by `storage::events`, in their order.
    ///
    /// # Errors
    /// When a row is damaged.
    pub async fn parsed(&self, stored: Vec<StoredEvent>) -> Result<Vec<Arc<RoomEvent>>> {
        let mut parsed = Vec::with_capacity(stored.len());
        for stored in stored {
            parsed.push(match self.events.get(&stored.nid) {
                Some(event) => event,
                // Not kept: whether it is still current is not known here.
                None => Arc::new(self.parse(stored).await?),
            });
        }
        Ok(parsed)
    }

    async fn remember(&self, stored: StoredEvent, changes: u64) -> Result<Arc<RoomEvent>> {
        if let Some(event) = self.events.get(&stored.nid) {
            return Ok(event);
        }
        let event = Arc::new(self.parse(stored).await?);
        let now = self.changes.lock();
        if *now == changes {
            self.events.insert(event.nid, Arc::clone(&event));
        }
        drop(now);
        Ok(event)
    }

    async fn parse(&self, stored: StoredEvent) -> Result<RoomEvent> {
        let rules = &self.room(stored.room).await?.rules;
        let rejected = stored.flags.has(EventFlags::REJECTED);
        let event = Event::from_stored(stored.json, stored.event_id, rules, rejected)
            .map_err(|error| StorageError::corrupt("event_json", "body", stored.nid, error))?;
        Ok(RoomEvent {
            nid: stored.nid,
            room: stored.room,
            event: Arc::new(event),
            sender: stored.sender,
            event_type: stored.event_type,
            state_key_nid: stored.state_key_nid,
            flags: stored.flags,
            state_before: stored.state_before,
            state_after: stored.state_after,
            timeline_key: stored.timeline_key,
            pos: stored.pos,
            thread: stored.thread,
            outcome: stored.outcome,
        })
    }

    /// Takes note of committed events: new ones, and what redactions left of old ones.
    pub(super) fn committed(&self, events: impl IntoIterator<Item = Arc<RoomEvent>>) {
        let mut changes = self.changes.lock();
        *changes += 1;
        for event in events {
            self.events.insert(event.nid, event);
        }
    }

    /// Forgets an event that another process redacted, or all of them (`None`).
    fn forget_event(&self, event: Option<EventNid>) {
        let mut changes = self.changes.lock();
        *changes += 1;
        match event {
            Some(event) => drop(self.events.remove(&event)),
            None => self.events.clear(),
        }
    }

    /// Returns the event that holds a key in a state.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_event_at(
        &self,
        state: StateNid,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<Arc<RoomEvent>>> {
        let Some(state_key_nid) =
            self.context.interned.find_state_key_nid(event_type, state_key).await?
        else {
            return Ok(None);
        };
        match self.states.lookup(state, Part::of(event_type), state_key_nid).await? {
            Some(nid) => Ok(Some(self.events(&[nid]).await?.remove(0))),
            None => Ok(None),
        }
    }

    /// Returns the events that hold a key in each of many states; nothing for a state that has none.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn state_events_across(
        &self,
        states: &[StateNid],
        event_type: &str,
        state_key: &str,
    ) -> Result<HashMap<StateNid, Arc<RoomEvent>>> {
        let Some(state_key_nid) =
            self.context.interned.find_state_key_nid(event_type, state_key).await?
        else {
            return Ok(HashMap::new());
        };
        let found = self.states.lookup_across(states, Part::of(event_type), state_key_nid).await?;
        let nids: BTreeSet<EventNid> = found.values().copied().collect();
        let nids: Vec<EventNid> = nids.into_iter().collect();
        let events = nids.iter().copied().zip(self.events(&nids).await?);
        let events: HashMap<EventNid, Arc<RoomEvent>> = events.collect();
        let held = |(state, nid)| events.get(&nid).map(|event| (state, Arc::clone(event)));
        Ok(found.into_iter().filter_map(held).collect())
    }

    /// Returns what state events replaced, by the event that did.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn replaced_by<'a>(
        &self,
        events: impl IntoIterator<Item = &'a RoomEvent>,
    ) -> Result<HashMap<EventNid, Arc<RoomEvent>>> {
        let (mut replacing, mut places) = (Vec::new(), Vec::new());
        for event in events {
            if let (Some(key), Some(before)) = (event.state_key_nid, event.state_before) {
                replacing.push(event.nid);
                places.push((before, Part::of(&event.event.event_type().to_string()), key));
            }
        }
        let found = self.states.lookup_each(&places).await?;
        let found = replacing.into_iter().zip(found);
        let (replacing, replaced): (Vec<EventNid>, Vec<EventNid>) =
            found.filter_map(|(by, nid)| Some((by, nid?))).unzip();
        Ok(replacing.into_iter().zip(self.events(&replaced).await?).collect())
    }

    /// Returns the event that holds a key in the current state of a room.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_event(
        &self,
        room: RoomNid,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<Arc<RoomEvent>>> {
        let head = self.head(room).await?;
        self.state_event_at(head.state, event_type, state_key).await
    }

    /// Returns all events of a part of a state, in no particular order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn state_events(&self, state: StateNid, part: Part) -> Result<Vec<Arc<RoomEvent>>> {
        let entries = self.states.list(state, part).await?;
        let nids: Vec<EventNid> = entries.iter().map(|entry| entry.event).collect();
        self.events(&nids).await
    }

    /// Tells whether a user's account is on this server.
    pub fn is_local(&self, user: &UserId) -> bool {
        user.server_name() == self.context.server_name
    }
}

/// Forgets events that another process redacted.
impl Subscriber for Store {
    fn advanced(&self, advance: &StreamAdvance) {
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::Redacted(event), _) => self.forget_event(Some(*event)),
                (Touch::Anybody, Stream::Events) => self.forget_event(None),
                _ => {}
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.forget_event(None);
    }
}
