//! What other servers of a room ask to see of it: events, states, what is missing, history.
//!
//! Source: Matrix v1.19, server-server, "Retrieving events", "Backfilling and retrieving missing events".

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    nid::EventNid,
    ruma::{EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UserId},
};
use colonnade_rooms::{Error, Result, RoomEvent};
use colonnade_storage::rooms::{
    aggregations::{self, Direction, Lens},
    events::EventFlags,
};

use super::FederationService;

/// Events that are given at a time, of history and of what is missing.
const EVENTS_MAX: usize = 100;
/// Events that are missing and given at a time. The specification's default is 10.
const MISSING_MAX: usize = 20;

/// Events nearest to a time that are looked at: a room hides hardly any.
const NEAREST_MAX: i64 = 20;

/// A state: its events, and those that allow them.
pub struct StateAt {
    /// The events of the state.
    pub state: Vec<EventNid>,
    /// Their auth chain.
    pub auth_chain: Vec<EventNid>,
}

impl FederationService {
    /// Returns an event.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn event(&self, origin: &ServerName, event_id: &EventId) -> Result<Arc<RoomEvent>> {
        let unknown = || MatrixError::not_found("no such event");
        let ids = [event_id.to_owned()];
        let found = self.rooms.events_by_ids(&ids).await?.pop().ok_or_else(unknown)?;
        let room = self.rooms.room(found.room).await?;
        let user =
            found.event.membership().and_then(|_| UserId::parse(found.event.state_key()?).ok());
        let is_own = user.is_some_and(|user| user.server_name() == origin);
        match self.shared_room(&room.room_id, origin).await {
            Ok(_) => {}
            // What became of its own users a server may know when it is out: an end of their stay above all.
            Err(Error::Client(_)) if is_own && found.is_shown() => {
                self.require_admitted(&room, origin).await?;
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
        let mut seen = self.rooms.shown_to_server(&room, vec![found], origin).await?;
        Ok(seen.pop().ok_or_else(unknown)?)
    }

    /// Returns the state before an event.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn state_at(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<StateAt> {
        let room = self.shared_room(room_id, origin).await?;
        let event = self.rooms.part_of(&room, event_id).await?;
        if event.flags.has(EventFlags::REJECTED) {
            return Err(MatrixError::not_found("the event is no part of this room").into());
        }
        let state = match event.state_before {
            Some(state) => self.rooms.state_nids(state).await?,
            None => Vec::new(),
        };
        let auth_chain = self.rooms.auth_chain(&state).await?;
        Ok(StateAt { state, auth_chain })
    }

    /// Returns the ids of a state's events and of their auth chain.
    ///
    /// # Errors
    /// As [`FederationService::state_at`].
    pub async fn state_ids(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<(Vec<OwnedEventId>, Vec<OwnedEventId>)> {
        let StateAt { state, auth_chain } = self.state_at(origin, room_id, event_id).await?;
        Ok((self.rooms.ids_of(&state).await?, self.rooms.ids_of(&auth_chain).await?))
    }

    /// Returns a state's events and their auth chain.
    ///
    /// # Errors
    /// As [`FederationService::state_at`].
    pub async fn state(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<(Vec<Arc<RoomEvent>>, Vec<Arc<RoomEvent>>)> {
        let StateAt { state, auth_chain } = self.state_at(origin, room_id, event_id).await?;
        Ok((self.rooms.events(&state).await?, self.rooms.events(&auth_chain).await?))
    }

    /// Returns the auth chain of an event.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn event_auth(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let room = self.shared_room(room_id, origin).await?;
        let unknown = || MatrixError::not_found("no such event in this room");
        let nids = self.rooms.nids_of(&room, &[event_id.to_owned()]).await?;
        let nid = nids.first().copied().ok_or_else(unknown)?;
        let chain = self.rooms.auth_chain(&[nid]).await?;
        self.rooms.events(&chain).await
    }

    /// Returns events from these back.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn backfill(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let room = self.shared_room(room_id, origin).await?;
        let limit = limit.min(EVENTS_MAX);
        let from = &from[..from.len().min(EVENTS_MAX)];
        let events = self.rooms.before(&room, from, &[], limit).await?;
        self.rooms.shown_to_server(&room, events, origin).await
    }

    /// Returns events between what a server knows and what it heard of, oldest first.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn missing_events(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        (limit, min_depth): (usize, u64),
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let room = self.shared_room(room_id, origin).await?;
        let limit = limit.min(MISSING_MAX);
        let latest = &latest[..latest.len().min(MISSING_MAX)];
        let mut from = Vec::new();
        for event in self.rooms.events_by_ids(latest).await? {
            if event.room == room.nid {
                from.extend(event.event.prev_events().iter().cloned());
            }
        }
        let known: Vec<OwnedEventId> = earliest.iter().chain(latest).cloned().collect();
        let mut events = self.rooms.before(&room, &from, &known, limit).await?;
        events.retain(|event| event.event.depth() >= min_depth);
        events.reverse();
        self.rooms.shown_to_server(&room, events, origin).await
    }

    /// Returns the event nearest to a time, in milliseconds since 1970, that another server may see.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is none that way, `M_FORBIDDEN`.
    pub async fn at_time(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        when: (i64, Direction),
    ) -> Result<(OwnedEventId, MilliSecondsSinceUnixEpoch)> {
        let room = self.shared_room(room_id, origin).await?;
        let (db, all) = (&self.context.db, Lens::all_but(Vec::new()));
        let nids = aggregations::at_time(db, room.nid, when, &all, NEAREST_MAX).await?;
        let mut events = self.rooms.events(&nids).await?;
        let refused = EventFlags::REJECTED.0 | EventFlags::SOFT_FAILED.0;
        events.retain(|event| event.flags.0 & refused == 0);
        let seen = self.rooms.shown_to_server(&room, events.clone(), origin).await?;
        // What it may not see comes back redacted.
        let mut whole = events.iter().zip(&seen).filter(|(event, seen)| Arc::ptr_eq(event, seen));
        let nearest = whole.next().map(|(event, _)| &event.event);
        let nearest = nearest.ok_or_else(|| MatrixError::not_found("no event that way"))?;
        Ok((nearest.event_id().to_owned(), nearest.origin_server_ts()))
    }
}
