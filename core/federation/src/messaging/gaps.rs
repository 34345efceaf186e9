//! Filling what is missing before an event: the events in between if they are few, or else the state there.
//!
//! Source: Matrix v1.19, server-server, "Retrieving events" and "Backfilling and retrieving missing events".

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use colonnade_model::{
    nid::EventNid,
    ruma::{EventId, OwnedEventId, ServerName},
};
use colonnade_rooms::Room;
use colonnade_rules::event::Event;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{EVENTS_MAX, Messaging, MessagingError, escaped, path, path_at};
use crate::transport::Request;

/// Events between what is known and what arrived that are asked for. The specification's default is 10.
const BETWEEN_MAX: usize = 20;
/// Single events that are asked for one by one; of more all of the state is asked for.
const SINGLE_MAX: usize = 30;
/// How long one question may take: whoever sent the event waits meanwhile.
const QUESTION: Duration = Duration::from_secs(30);
/// How large a state may be, in bytes: 100,000 members of 1.5 kB.
const STATE_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Deserialize)]
struct Missing {
    #[serde(default)]
    events: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StateIds {
    pdu_ids: Vec<OwnedEventId>,
    #[serde(default)]
    auth_chain_ids: Vec<OwnedEventId>,
}

#[derive(Deserialize)]
struct Chain {
    #[serde(default)]
    auth_chain: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Single {
    pdus: Vec<Box<RawValue>>,
}

impl Messaging {
    /// Asks for the events between what is known of a room and an event, oldest first.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn between(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        event: &Event,
    ) -> Result<Vec<Event>, MessagingError> {
        let head = self.rooms.head(room.nid).await?;
        let known = self.rooms.ids_of(&head.extremities).await?;
        let body = json!({
            "earliest_events": known,
            "latest_events": [event.event_id()],
            "limit": BETWEEN_MAX,
            "min_depth": 0,
        });
        let request = Request::post(path("v1/get_missing_events", &room.room_id, None), &body)?;
        let answer = self.transport.send(server, request.within(QUESTION)).await?;
        let mut missing: Missing = answer.json().await?;
        missing.events.truncate(BETWEEN_MAX);
        let mut events = self.usable(room, missing.events).await?;
        events.sort_by_key(Event::depth);
        Ok(events)
    }

    /// Stores what another server says the state before an event is, and returns it.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn state_before(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        event: &EventId,
    ) -> Result<Vec<EventNid>, MessagingError> {
        let request = Request::get(path_at("v1/state_ids", &room.room_id, event));
        let request = request.within(QUESTION).taking(STATE_BYTES_MAX);
        let StateIds { pdu_ids, auth_chain_ids } =
            self.transport.send(server, request).await?.json().await?;
        if pdu_ids.len() + auth_chain_ids.len() > EVENTS_MAX {
            return Err(MessagingError::Unusable(format!("a state of {} events", pdu_ids.len())));
        }
        let all: Vec<OwnedEventId> = auth_chain_ids.into_iter().chain(pdu_ids.clone()).collect();
        let unknown = self.rooms.never_seen(&all).await?;
        match unknown.len() {
            0 => {}
            1..=SINGLE_MAX => {
                let pdus = self.one_by_one(server, room, unknown).await?;
                self.rooms.add_outliers(room, pdus).await?;
            }
            _ => {
                let request = Request::get(path_at("v1/state", &room.room_id, event));
                let request = request.within(QUESTION * 4).taking(STATE_BYTES_MAX);
                self.store_state(room, self.transport.send(server, request).await?).await?;
            }
        }
        Ok(self.rooms.nids_of(room, &pdu_ids).await?)
    }

    /// Stores the events that allow some others, as far as they are not known.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn fetch_auth_events(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        event: &Event,
    ) -> Result<(), MessagingError> {
        let unknown = self.rooms.never_seen(event.auth_events()).await?;
        if unknown.is_empty() {
            return Ok(());
        }
        let address = path("v1/event_auth", &room.room_id, Some(event.event_id().as_str()));
        let request = Request::get(address).within(QUESTION).taking(STATE_BYTES_MAX);
        let chain = self.transport.send(server, request).await;
        let events = match chain {
            Ok(answer) => {
                let chain: Chain = answer.json().await?;
                self.usable(room, chain.auth_chain).await?
            }
            // Who does not say how an event is allowed may still have those that allow it.
            Err(_) => self.one_by_one(server, room, unknown).await?,
        };
        self.add_what_hangs_together(room, events).await
    }

    /// Asks for single events.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn one_by_one(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        ids: Vec<OwnedEventId>,
    ) -> Result<Vec<Event>, MessagingError> {
        let mut pdus = Vec::with_capacity(ids.len());
        for id in ids.into_iter().take(SINGLE_MAX) {
            let address = format!("/_matrix/federation/v1/event/{}", escaped(id.as_str()));
            let answer =
                self.transport.send(server, Request::get(address).within(QUESTION)).await?;
            let single: Single = answer.json().await?;
            pdus.extend(single.pdus.into_iter().take(1));
        }
        Ok(self.usable(room, pdus).await?)
    }

    /// Stores those of the events whose auth events are known or among them.
    pub(super) async fn add_what_hangs_together(
        &self,
        room: &Arc<Room>,
        events: Vec<Event>,
    ) -> Result<(), MessagingError> {
        let named: BTreeSet<OwnedEventId> =
            events.iter().flat_map(|event| event.auth_events().iter().cloned()).collect();
        let here: BTreeSet<OwnedEventId> =
            events.iter().map(|event| event.event_id().to_owned()).collect();
        let elsewhere: Vec<OwnedEventId> = named.difference(&here).cloned().collect();
        let mut lacking: BTreeSet<OwnedEventId> =
            self.rooms.never_seen(&elsewhere).await?.into_iter().collect();
        let mut whole = Vec::with_capacity(events.len());
        for event in events {
            // They come in the order of their auth events, so what lacks one is known by then.
            match event.auth_events().iter().any(|id| lacking.contains(id)) {
                true => drop(lacking.insert(event.event_id().to_owned())),
                false => whole.push(event),
            }
        }
        self.rooms.add_outliers(room, whole).await?;
        Ok(())
    }
}
