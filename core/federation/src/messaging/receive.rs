//! Taking PDUs of a transaction: each is checked, what it needs is fetched, and its room takes it.
//!
//! PDUs of one room are taken one after the other, in their order; those of different rooms at once. A server has one
//! transaction under way at a time, and waits for one turn to compute and at one place in a room's queue at a time, so
//! what it keeps others waiting does not depend on how much it sends.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::EventNid,
    ruma::{OwnedEventId, OwnedRoomId, ServerName},
};
use colonnade_rooms::{
    Result, Room,
    incoming::{Incoming, StateBefore},
    remote::Outcome,
};
use colonnade_rules::{acl::ServerAcl, event::Event};
use colonnade_storage::federation::entering::PutAside;
use futures_util::{StreamExt as _, stream};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use super::{Messaging, MessagingError, pdus::Looked};
use crate::pdu::room_of;

/// Rooms whose PDUs are taken at a time, for one origin.
const ROOMS_MAX: usize = 8;

/// A PDU that was looked at: its id, if it has the form of an event, and the event or why it is dropped.
pub(super) type Checked = (Option<OwnedEventId>, Result<Event, String>);

/// What became of a PDU.
#[derive(Debug)]
pub struct Received {
    /// Its id, if it has the form of an event.
    pub event_id: Option<OwnedEventId>,
    /// Why it was dropped, unless it is dealt with: stored, rejected, or put aside until the room is entered.
    pub result: Result<(), String>,
}

impl Messaging {
    /// Takes PDUs that another server sends.
    ///
    /// # Errors
    /// When the database fails: then nothing is said of any of them, and they may be sent again.
    pub async fn receive(
        &self,
        origin: &ServerName,
        pdus: Vec<Box<RawValue>>,
    ) -> Result<Vec<Received>> {
        let mut by_room: BTreeMap<OwnedRoomId, Vec<Box<RawValue>>> = BTreeMap::new();
        for pdu in pdus {
            // Of what names no room nothing can be said: it has no id without the room's version.
            if let Some(room) = room_of(&pdu) {
                by_room.entry(room).or_default().push(pdu);
            }
        }
        // Whoever sends to many rooms waits for one turn to compute at a time, as whoever sends to one does.
        let one = Semaphore::new(1);
        let rooms =
            by_room.into_iter().map(|(room, pdus)| self.receive_in(origin, room, pdus, &one));
        let mut taken = stream::iter(rooms).buffer_unordered(ROOMS_MAX);
        let mut received = Vec::new();
        while let Some(of_room) = taken.next().await {
            received.extend(of_room?);
        }
        Ok(received)
    }

    /// Takes PDUs of one room.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn receive_in(
        &self,
        origin: &ServerName,
        room_id: OwnedRoomId,
        pdus: Vec<Box<RawValue>>,
        one: &Semaphore,
    ) -> Result<Vec<Received>> {
        // Of one that is being entered nothing but its row may be there.
        let Some(room) = self.rooms.find_row(&room_id).await? else {
            tracing::debug!(%origin, %room_id, "PDUs of a room that is not known here");
            return Ok(Vec::new());
        };
        let is_begun = self.rooms.find(&room_id).await?.is_some();
        let allowed = !is_begun || self.admits(&room, origin).await?;
        let mut resident = is_begun && self.rooms.is_resident(&room).await?;
        let looked = {
            let _turn = one.acquire().await;
            self.look_at(&room.rules, pdus).await?
        };
        let looked = looked.into_iter().map(|Looked { event_id, result }| {
            let result = match result {
                Err(refused) => Err(refused.to_string()),
                Ok(_) if !allowed => Err(format!("{origin} may not take part in this room")),
                Ok(event) if event.room_id() != room.room_id => Err("of another room".to_owned()),
                Ok(event) => Ok(event),
            };
            (event_id, result)
        });
        let looked: Vec<Checked> = looked.collect();
        if !resident {
            match self.put_aside(origin, &room, &looked).await? {
                PutAside::Kept => return Ok(put_aside(looked, &Ok(()))),
                PutAside::Full => {
                    let why = Err("the room is being entered, and too much waits".to_owned());
                    return Ok(put_aside(looked, &why));
                }
                // It may have been entered just now.
                PutAside::NotEntering => resident = self.rooms.is_resident(&room).await?,
            }
        }
        let mut received = Vec::with_capacity(looked.len());
        for (event_id, checked) in looked {
            let result = match checked {
                Err(why) => Err(why),
                Ok(event) if !resident => self.take_from_outside(&room, event).await,
                Ok(event) => self.take(origin, &room, event).await,
            };
            received.push(Received { event_id, result });
        }
        Ok(received)
    }

    /// Tells whether a room's access control list lets a server take part.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn admits(&self, room: &Room, server: &ServerName) -> Result<bool> {
        let acl = self.rooms.state_event(room.nid, "m.room.server_acl", "").await?;
        Ok(ServerAcl::read(acl.as_ref().map(|acl| &*acl.event)).is_allowed(server))
    }

    /// Takes one checked event.
    async fn take(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<(), String> {
        match self.take_filling_gaps(origin, room, event).await {
            Ok(_taken) => Ok(()),
            Err(error) => {
                tracing::debug!(%origin, room = %room.room_id, %error, "an event is not taken");
                Err(error.to_string())
            }
        }
    }

    /// Takes one checked event, with what is missing before it.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn take_filling_gaps(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
    ) -> Result<(Event, Outcome), MessagingError> {
        let unknown = self.rooms.unknown_among(room, event.prev_events()).await?;
        if unknown.is_empty() {
            return self.take_after(origin, room, event, unknown).await;
        }
        match self.between(origin, room, &event).await {
            Ok(between) => {
                let named = between.iter().flat_map(|event| event.prev_events().iter().cloned());
                let named: Vec<OwnedEventId> = named.chain(unknown.iter().cloned()).collect();
                let missing = self.rooms.unknown_among(room, &named).await?;
                for between in leading_to(&unknown, between, &missing) {
                    let unknown = self.rooms.unknown_among(room, between.prev_events()).await?;
                    self.take_after(origin, room, between, unknown).await?;
                }
                // Whoever sends an event has what it follows: what he does not give is nothing to build on.
                if !self.rooms.unknown_among(room, event.prev_events()).await?.is_empty() {
                    let why = "its sender does not give the events before it".to_owned();
                    return Err(MessagingError::Unusable(why));
                }
                self.take_after(origin, room, event, Vec::new()).await
            }
            Err(MessagingError::Transport(error)) => {
                tracing::debug!(%origin, room = %room.room_id, %error, "no events in between");
                self.take_after(origin, room, event, unknown).await
            }
            Err(error) => Err(error),
        }
    }

    /// Takes an event. Of what it follows and is not known, which is `unknown`, the other server says the state
    /// there.
    async fn take_after(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        event: Event,
        unknown: Vec<OwnedEventId>,
    ) -> Result<(Event, Outcome), MessagingError> {
        self.fetch_auth_events(origin, room, &event).await?;
        let id = event.event_id().to_owned();
        let before =
            match unknown.is_empty() || self.rooms.unknown_among(room, &[id]).await?.is_empty() {
                true => StateBefore::Followed,
                false => StateBefore::Between(self.states_at(origin, room, unknown).await?),
            };
        let (_, outcome) = self.rooms.receive(room, Incoming::with(event.clone(), before)).await?;
        Ok((event, outcome))
    }

    /// Fetches events that are missing, and the state before each as another server says it.
    async fn states_at(
        &self,
        origin: &ServerName,
        room: &Arc<Room>,
        missing: Vec<OwnedEventId>,
    ) -> Result<Vec<(Vec<EventNid>, EventNid)>, MessagingError> {
        let mut states = Vec::with_capacity(missing.len());
        for id in missing {
            let state = self.state_before(origin, room, &id).await?;
            if !self.rooms.never_seen(std::slice::from_ref(&id)).await?.is_empty() {
                let found = self.one_by_one(origin, room, vec![id.clone()]).await?;
                for event in &found {
                    self.fetch_auth_events(origin, room, event).await?;
                }
                self.add_what_hangs_together(room, found).await?;
            }
            let nid = self.rooms.nids_of(room, &[id]).await?.pop();
            let gone = || MessagingError::Unusable("another event than was asked for".to_owned());
            states.push((state, nid.ok_or_else(gone)?));
        }
        Ok(states)
    }

    /// Takes what concerns a user of this server in a room that nobody of it is in: an invitation taken back, a
    /// knock answered.
    async fn take_from_outside(&self, room: &Arc<Room>, event: Event) -> Result<(), String> {
        let taken = self.rooms.receive_outside(room, event).await;
        taken.map(drop).map_err(|error| error.to_string())
    }
}

/// Says of what passed the checks what became of all of it.
fn put_aside(checked: Vec<Checked>, fate: &Result<(), String>) -> Vec<Received> {
    let said = |(event_id, result): Checked| Received {
        event_id,
        result: result.and_then(|_| fate.clone()),
    };
    checked.into_iter().map(said).collect()
}

/// Returns those of some events that are between what is known and `wanted`, each after those it follows. Who does not
/// know ours gives what is older, too, from before this server came into the room: that stays where it is.
fn leading_to(wanted: &[OwnedEventId], events: Vec<Event>, missing: &[OwnedEventId]) -> Vec<Event> {
    let missing: HashSet<&OwnedEventId> = missing.iter().collect();
    let mut events: HashMap<OwnedEventId, Event> =
        events.into_iter().map(|event| (event.event_id().to_owned(), event)).collect();
    let mut ordered = Vec::with_capacity(events.len());
    // Each is opened, and after what it follows closed; one that is open or closed is left alone, so circles end.
    let mut open: Vec<(OwnedEventId, Option<Event>)> =
        wanted.iter().rev().map(|id| (id.clone(), None)).collect();
    while let Some((id, followed)) = open.pop() {
        if let Some(event) = followed {
            ordered.push(event);
        } else if let Some(event) = events.remove(&id) {
            let before: Vec<OwnedEventId> =
                event.prev_events().iter().filter(|id| missing.contains(id)).cloned().collect();
            open.push((id, Some(event)));
            open.extend(before.into_iter().map(|id| (id, None)));
        }
    }
    ordered
}
