//! History that is missing here: asked of servers that were there.
//!
//! Source: Matrix v1.19, server-server, "Backfilling and retrieving missing events".

use std::{sync::Arc, time::Duration};

use colonnade_model::ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, ServerName,
};
use colonnade_rooms::{Error, Room};
use colonnade_rules::event::Event;
use colonnade_storage::rooms::{aggregations::Direction, gaps, servers};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Messaging, MessagingError, escaped, path};
use crate::transport::Request;

/// How long a server may take: a client waits.
const QUESTION: Duration = Duration::from_secs(20);

/// How long one may take that only looks an event up.
const NEAREST: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Transaction {
    #[serde(default)]
    pdus: Vec<Box<RawValue>>,
}

/// Events that are asked for at a time.
const EVENTS: usize = 100;
/// Servers that are asked, one after the other.
const SERVERS_MAX: usize = 3;
/// Places where history is missing that are asked for together.
const GAPS_MAX: i64 = 20;

impl Messaging {
    /// Fetches history from before what is known of a room, if some is missing; tells whether any came.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fetch_history(&self, room: &Arc<Room>) -> Result<bool, Error> {
        let db = &self.rooms.context().db;
        let from = gaps::missing(db, room.nid, GAPS_MAX).await?;
        if from.is_empty() || !self.transport.policy().is_enabled() {
            return Ok(false);
        }
        for server in self.largest(room).await? {
            match self.fetch_history_from(&server, room, &from).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(room = %room.room_id, %server, %error, "no history");
                }
            }
        }
        Ok(false)
    }

    /// Returns the servers of a room that have the most members there.
    async fn largest(&self, room: &Room) -> Result<Vec<OwnedServerName>, Error> {
        let mut others = servers::of_rooms(&self.rooms.context().db, &[room.nid]).await?;
        others.sort_by_key(|server| std::cmp::Reverse(server.joined));
        Ok(others.into_iter().map(|other| other.server).take(SERVERS_MAX).collect())
    }

    /// Asks other servers for the event of a room nearest to a time, in milliseconds since 1970, if some of its
    /// history is missing here.
    ///
    /// Source: Matrix v1.19, server-server, `GET /_matrix/federation/v1/timestamp_to_event/{roomId}`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn at_time(
        &self,
        room: &Room,
        ts_ms: i64,
        direction: Direction,
    ) -> Result<Option<(OwnedEventId, MilliSecondsSinceUnixEpoch)>, Error> {
        #[derive(Deserialize)]
        struct Nearest {
            event_id: OwnedEventId,
            origin_server_ts: MilliSecondsSinceUnixEpoch,
        }
        let db = &self.rooms.context().db;
        if gaps::missing(db, room.nid, 1).await?.is_empty() || !self.transport.policy().is_enabled()
        {
            return Ok(None);
        }
        let way = match direction {
            Direction::Forward => "f",
            Direction::Backward => "b",
        };
        let address = path("v1/timestamp_to_event", &room.room_id, None);
        let address = format!("{address}?ts={}&dir={way}", ts_ms.max(0));
        for server in self.largest(room).await? {
            let asked = async {
                let request = Request::get(address.as_str()).within(NEAREST);
                self.transport.send(&server, request).await?.json::<Nearest>().await
            };
            match asked.await {
                Ok(nearest) => return Ok(Some((nearest.event_id, nearest.origin_server_ts))),
                Err(error) => {
                    tracing::debug!(room = %room.room_id, %server, %error, "no event at a time");
                }
            }
        }
        Ok(None)
    }

    async fn fetch_history_from(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        from: &[OwnedEventId],
    ) -> Result<bool, MessagingError> {
        let events = self.backfill(server, room, from, EVENTS).await?;
        let Some(first) = events.first() else { return Ok(false) };
        let state = match first.prev_events().is_empty() {
            true => Vec::new(),
            false => self.state_before(server, room, first.event_id()).await?,
        };
        let mut usable = Vec::with_capacity(events.len());
        for event in events {
            self.fetch_auth_events(server, room, &event).await?;
            if self.rooms.never_seen(event.auth_events()).await?.is_empty() {
                usable.push(event);
            }
        }
        Ok(!self.rooms.add_history(room, usable, state).await?.is_empty())
    }

    /// Asks for events from these back, oldest first: at most `limit`.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn backfill(
        &self,
        server: &ServerName,
        room: &Arc<Room>,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Event>, MessagingError> {
        let from = from.iter().map(|id| format!("v={}", escaped(id.as_str())));
        let query = from.collect::<Vec<_>>().join("&");
        let address = format!("{}?{query}&limit={limit}", path("v1/backfill", &room.room_id, None));
        let answer = self.transport.send(server, Request::get(address).within(QUESTION)).await?;
        let mut history: Transaction = answer.json().await?;
        history.pdus.truncate(limit);
        let mut events = self.usable(room, history.pdus).await?;
        events.sort_by_key(Event::depth);
        Ok(events)
    }
}
