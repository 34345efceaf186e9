//! Adding outliers: events of another server that allow others or make up a state, and of which the state
//! before is not known. Clients do not see them.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{MatrixError, nid::EventNid, ruma::OwnedEventId};
use colonnade_rules::event::Event;
use colonnade_storage::rooms::{
    events::{self, EventFlags},
    interned::StateKey as NamedKey,
    persist::NewEvent,
};

use super::{
    PendingRoom,
    ingest::{allowed_by, create_id},
};
use crate::{Result, proposal::Sent, store::RoomEvent, store::Store};

impl PendingRoom {
    /// Adds outliers, in an order in which each comes after those that allow it. Those that are known
    /// already stay as they are. One that its auth events do not allow is stored as rejected.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when an auth event is neither known nor among them.
    pub(crate) async fn add_outliers(
        &mut self,
        store: &Store,
        outliers: Vec<Event>,
    ) -> Result<Vec<Sent>> {
        let mut known = self.known_among(store, &outliers).await?;
        let new: Vec<&Event> =
            outliers.iter().filter(|event| !known.contains_key(event.event_id())).collect();
        let context = &store.context;
        let users = context.interned.users(new.iter().map(|event| event.sender())).await?;
        let keys: Vec<NamedKey> = new.iter().filter_map(|event| named(event)).collect();
        let keys = context.interned.state_key_nids(&keys).await?;
        let newest = known.values().map(|event| event.nid).max().unwrap_or(EventNid(0));
        let first = match new.len() {
            0 => newest,
            count => context.nids.events(&context.db, count, newest).await?,
        };
        let received_ts = context.now_ms();
        let mut keys = keys.into_iter();
        let create = create_id(self);
        for (place, event) in (0..).zip(new) {
            let allowing = allowing(&known, event, create.as_ref())?;
            let flags = match allowed_by(self, event, &allowing) {
                true => EventFlags::OUTLIER,
                false => EventFlags::OUTLIER.with(EventFlags::REJECTED),
            };
            let event_type = context.interned.event_type(&event.event_type().to_string()).await?;
            let room_event = Arc::new(RoomEvent {
                nid: EventNid(first.0 + place),
                room: self.room.nid,
                sender: users[event.sender()],
                event_type,
                state_key_nid: event.state_key().and_then(|_| keys.next()),
                flags,
                event: Arc::new(event.clone().with_rejected(flags.has(EventFlags::REJECTED))),
                state_before: None,
                state_after: None,
                timeline_key: None,
                pos: None,
                thread: None,
                outcome: Default::default(),
            });
            self.added.fresh_ids.insert(event.event_id().to_owned(), room_event.nid);
            self.added.fresh.insert(room_event.nid, Arc::clone(&room_event));
            self.added.events.push(row(&room_event, &allowing, received_ts));
            known.insert(event.event_id().to_owned(), room_event);
        }
        let sent = outliers.iter().filter_map(|event| {
            let nid = known.get(event.event_id())?.nid;
            Some(Sent { event_id: event.event_id().to_owned(), nid })
        });
        Ok(sent.collect())
    }

    /// Finds which of the events are known in this room, and which of those that allow them in any.
    async fn known_among(
        &self,
        store: &Store,
        outliers: &[Event],
    ) -> Result<HashMap<OwnedEventId, Arc<RoomEvent>>> {
        let create = create_id(self).into_iter();
        let named = outliers.iter().flat_map(|event| {
            std::iter::once(event.event_id().to_owned()).chain(event.auth_events().iter().cloned())
        });
        let mut known = HashMap::new();
        let mut asked = Vec::new();
        for id in named.chain(create) {
            match self.fresh_id(&id) {
                Some(nid) => drop(known.insert(id, self.event(store, nid).await?)),
                None => asked.push(id),
            }
        }
        asked.sort_unstable();
        asked.dedup();
        let found = events::find_nids(&store.context.db, &asked).await?;
        let nids: Vec<EventNid> = found.values().copied().collect();
        for event in store.events(&nids).await? {
            let is_one = |new: &Event| new.event_id() == event.event.event_id();
            if event.room != self.room.nid && outliers.iter().any(is_one) {
                let why = "another room has an event of this id";
                return Err(MatrixError::invalid_param(why).into());
            }
            known.insert(event.event.event_id().to_owned(), event);
        }
        Ok(known)
    }
}

fn named(event: &Event) -> Option<NamedKey> {
    let state_key = event.state_key()?;
    let event_type = event.event_type().to_string();
    Some(NamedKey { event_type: event_type.into(), state_key: state_key.into() })
}

/// Returns the events that allow another, with the one the room is named by.
fn allowing(
    known: &HashMap<OwnedEventId, Arc<RoomEvent>>,
    event: &Event,
    create: Option<&OwnedEventId>,
) -> Result<Vec<Arc<RoomEvent>>> {
    let missing = |id: &OwnedEventId| MatrixError::not_found(format!("{id} is not known here"));
    let mut allowing = Vec::with_capacity(event.auth_events().len() + 1);
    for id in event.auth_events() {
        allowing.push(Arc::clone(known.get(id).ok_or_else(|| missing(id))?));
    }
    allowing.extend(create.and_then(|create| known.get(create)).cloned());
    Ok(allowing)
}

fn row(event: &RoomEvent, allowing: &[Arc<RoomEvent>], received_ts: i64) -> NewEvent {
    let named = event.event.auth_events();
    let auths = allowing.iter().filter(|auth| named.iter().any(|id| id == auth.event.event_id()));
    NewEvent {
        nid: event.nid,
        event_id: event.event.event_id().to_string(),
        event_type: event.event_type,
        sender: event.sender,
        state_key_nid: event.state_key_nid,
        depth: i64::try_from(event.event.depth()).unwrap_or(i64::MAX),
        origin_ts: i64::try_from(u64::from(event.event.origin_server_ts().0)).unwrap_or(i64::MAX),
        received_ts,
        flags: event.flags,
        state_before: None,
        state_after: None,
        prevs: Vec::new(),
        missing_prevs: Vec::new(),
        was_outlier: false,
        history_key: None,
        auths: auths.map(|auth| auth.nid).collect(),
        json: event.event.shared_json(),
        txn: None,
        relation: None,
        redacts: None,
        redaction: None,
        live: None,
    }
}
