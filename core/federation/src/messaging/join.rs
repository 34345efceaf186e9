//! Joining a room over a server that is in it: this one sends the join, stores the state that comes back piece by
//! piece while it arrives, and enters the room.
//!
//! It does not ask for an answer without members (`omit_members`): it needs all of them before the join ends, and
//! would ask for the same events a second time ([decision 52](../../../../docs/decisions/0052-joins-of-large-rooms.md)).
//! A server that leaves them out all the same is asked for the whole state.
//!
//! Source: Matrix v1.19, server-server, "Joining Rooms".

use std::{collections::HashMap, sync::Arc, time::Duration};

use colonnade_model::{
    nid::EventNid,
    ruma::{OwnedEventId, RoomVersionId, ServerName, events::TimelineEventType},
};
use colonnade_rooms::{
    Room,
    incoming::{Incoming, StateBefore},
    remote::Outcome,
};
use colonnade_rules::{event::Event, order::Arriving};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, value::RawValue};

use super::{
    Messaging, MessagingError,
    pdus::Looked,
    state_answer::{self, Arrived, Form, List},
};
use crate::transport::Response;

/// How long a server may take to answer a join with a room of many members.
const JOIN: Duration = Duration::from_secs(180);
/// How large a room may be when it is joined, in bytes.
const ROOM_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Events that are checked in one turn: some ten milliseconds.
const TOGETHER: usize = 100;
/// Turns that are under way or wait at a time: enough that the keys of some are fetched while others compute.
const AHEAD: usize = 8;
/// Events that are stored together, in one transaction.
const STORED: usize = 1_000;

/// What another server says a room's state is; its events are stored.
enum SaidState {
    /// All of it.
    Whole(Vec<EventNid>),
    /// All but the members, who are not known: no state to build on.
    WithoutMembers,
}

/// What an answer with a state was.
struct Taken {
    state: SaidState,
    /// The join, as the other server took it.
    event: Option<Box<RawValue>>,
}

/// What is known of a room before its state arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    TheRoom,
}

impl Messaging {
    /// Joins a room over a server that is in it: sends it the join, stores the state it answers with and
    /// enters the room.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn send_join(
        &self,
        server: &ServerName,
        version: &RoomVersionId,
        join: Event,
    ) -> Result<Arc<Room>, MessagingError> {
        let room = self.rooms.elsewhere(join.room_id(), version).await?;
        // Once it has the join, the other server sends what happens in the room.
        let attempt = self.begin_entering(&room).await?;
        let entered = self.enter_over(server, &room, join).await;
        self.end_entering(&room, attempt, entered.is_ok()).await?;
        entered.map(|()| room)
    }

    async fn enter_over(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        join: Event,
    ) -> Result<(), MessagingError> {
        let (response, form) =
            self.put_in_either_form(server, "send_join", &join, JOIN, ROOM_BYTES_MAX).await?;
        tracing::info!(room = %room.room_id, %server, "a room is being joined");
        let _under_way = self.joins.begin();
        let Taken { state, event } = self.take_state(room, response, form, Before::Nothing).await?;
        let join = match event {
            Some(event) => self.completed_join(room, &join, event).await?,
            None => join,
        };
        if self.rooms.is_resident(room).await? {
            // It is here already, and goes on from what it is: only the join came from elsewhere.
            return match self.take_filling_gaps(server, room, join).await? {
                (_, Outcome::Rejected) => Err(not_allowed()),
                _ => Ok(()),
            };
        }
        let state = match state {
            SaidState::Whole(state) => state,
            SaidState::WithoutMembers => self.state_before(server, room, join.event_id()).await?,
        };
        let members = state.len();
        let before = StateBefore::Entered(state);
        match self.rooms.receive(room, Incoming::with(join, before)).await? {
            (_, Outcome::Rejected) => Err(not_allowed()),
            _ => {
                tracing::info!(room = %room.room_id, state = members, "the room is joined");
                Ok(())
            }
        }
    }

    /// Takes a join that the other server signed too, as restricted rooms want it. It must be the event
    /// that was sent.
    async fn completed_join(
        &self,
        room: &Room,
        sent: &Event,
        returned: Box<RawValue>,
    ) -> Result<Event, MessagingError> {
        let mut events = self.usable(room, vec![returned]).await?;
        match events.pop().filter(|event| event.event_id() == sent.event_id()) {
            Some(event) => Ok(event),
            None => Ok(sent.clone()),
        }
    }

    /// Stores the events of an answer that says the state of a room that is known here, as far as they hang
    /// together.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn store_state(
        &self,
        room: &Arc<Room>,
        response: Response,
    ) -> Result<(), MessagingError> {
        self.take_state(room, response, Form::Object, Before::TheRoom).await.map(drop)
    }

    /// Checks and stores the events of an answer while it arrives, each after those that allow it.
    async fn take_state(
        &self,
        room: &Arc<Room>,
        response: Response,
        form: Form,
        before: Before,
    ) -> Result<Taken, MessagingError> {
        let state_answer::StateAnswer { events, beside } = state_answer::read(response, form);
        let mut arriving = match before {
            Before::Nothing => Arriving::from_nothing(),
            Before::TheRoom => Arriving::in_room(),
        };
        let mut in_state = Vec::new();
        let mut stored = HashMap::new();
        let mut checked = std::pin::pin!(
            stream::unfold(events, next_piece)
                .map(|piece| self.look_at_listed(room, piece))
                .buffered(AHEAD)
        );
        while let Some(piece) = checked.next().await {
            for (list, looked) in piece? {
                in_state.extend(looked.event_id.clone().filter(|_| list == List::State));
                let Some(event) = looked.usable_in(room) else { continue };
                if before == Before::Nothing {
                    require_version(room, &event)?;
                }
                arriving.add(event);
            }
            if arriving.ready() >= STORED {
                self.store(room, &mut arriving, &mut stored).await?;
            }
        }
        let beside =
            beside.await.map_err(|error| MessagingError::Unusable(error.to_string()))??;
        let known =
            known_of(&arriving.lacking(), self.rooms.never_seen(&arriving.lacking()).await?);
        arriving.note_known(known);
        self.store(room, &mut arriving, &mut stored).await?;
        if before == Before::Nothing && stored.is_empty() {
            return Err(MessagingError::Unusable("a room without a beginning".to_owned()));
        }
        if arriving.waiting() > 0 {
            tracing::info!(room = %room.room_id, events = arriving.waiting(),
                "events of a state are left out, for what allows them did not come");
        }
        let state = match beside.members_omitted {
            true => SaidState::WithoutMembers,
            false => SaidState::Whole(self.found(room, in_state, &stored).await?),
        };
        Ok(Taken { state, event: beside.event })
    }

    async fn look_at_listed(
        &self,
        room: &Room,
        piece: Vec<Arrived>,
    ) -> Result<Vec<(List, Looked)>, MessagingError> {
        let (lists, pdus): (Vec<List>, Vec<Box<RawValue>>) =
            piece.into_iter().map(|Arrived { list, pdu }| (list, pdu)).unzip();
        let looked = self.look_at_state(room, pdus).await?;
        Ok(lists.into_iter().zip(looked).collect())
    }

    /// Stores what waits for nothing any more.
    async fn store(
        &self,
        room: &Arc<Room>,
        arriving: &mut Arriving,
        stored: &mut HashMap<OwnedEventId, EventNid>,
    ) -> Result<(), MessagingError> {
        let ready = arriving.take_ready();
        if ready.is_empty() {
            return Ok(());
        }
        self.joins.stored(ready.len());
        let sent = self.rooms.add_outliers(room, ready).await?;
        stored.extend(sent.into_iter().map(|sent| (sent.event_id, sent.nid)));
        tracing::info!(room = %room.room_id, stored = stored.len(), waiting = arriving.waiting(),
            "the state of a room arrives");
        Ok(())
    }

    /// Returns the events of a state that are stored, now or from before.
    async fn found(
        &self,
        room: &Room,
        mut in_state: Vec<OwnedEventId>,
        stored: &HashMap<OwnedEventId, EventNid>,
    ) -> Result<Vec<EventNid>, MessagingError> {
        in_state.sort_unstable();
        in_state.dedup();
        let mut found: Vec<EventNid> =
            in_state.iter().filter_map(|id| stored.get(id).copied()).collect();
        in_state.retain(|id| !stored.contains_key(id));
        found.extend(self.rooms.nids_of(room, &in_state).await?);
        Ok(found)
    }
}

fn not_allowed() -> MessagingError {
    MessagingError::Unusable("the room's own state does not allow the join".to_owned())
}

async fn next_piece(
    mut events: tokio::sync::mpsc::Receiver<Arrived>,
) -> Option<(Vec<Arrived>, tokio::sync::mpsc::Receiver<Arrived>)> {
    let mut piece = Vec::with_capacity(TOGETHER);
    match events.recv_many(&mut piece, TOGETHER).await {
        0 => None,
        _ => Some((piece, events)),
    }
}

/// Returns those of the events that were seen.
fn known_of(all: &[OwnedEventId], never_seen: Vec<OwnedEventId>) -> Vec<OwnedEventId> {
    let never_seen: std::collections::BTreeSet<OwnedEventId> = never_seen.into_iter().collect();
    all.iter().filter(|id| !never_seen.contains(*id)).cloned().collect()
}

/// A room begins with a create event that says its version.
fn require_version(room: &Room, event: &Event) -> Result<(), MessagingError> {
    if !event.is_state(&TimelineEventType::RoomCreate, "") {
        return Ok(());
    }
    let content: Value = event.content_as().unwrap_or_default();
    match content["room_version"].as_str().unwrap_or("1") == room.version.as_str() {
        true => Ok(()),
        false => Err(MessagingError::Unusable("a room of another version".to_owned())),
    }
}
