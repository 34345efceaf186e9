//! An event with what was said around it.
//!
//! Source: Matrix v1.19, client-server, "GET /rooms/{roomId}/context/{eventId}".

use std::sync::Arc;

use colonnade_model::{
    ruma::{EventId, RoomId, api::client::filter::RoomEventFilter},
    token::TimelineToken,
};
use colonnade_rooms::{Error, Result, Room, no_event};
use colonnade_rules::event::{ClientFormat, Event};
use colonnade_storage::rooms::{aggregations::Direction, state::Part};
use serde_json::value::RawValue;

use super::{
    Bundles, PAGE_BYTES_MAX, Shown, StateEvents, Timeline, Viewer,
    pages::{SCANNED_MAX, Span},
};
use crate::sync::filter;

/// Events around an event at most.
const AROUND_MAX: i64 = 100;
/// Bytes of them on each side: together a page.
const AROUND_BYTES_MAX: usize = PAGE_BYTES_MAX / 2;

/// An event with what was said around it.
pub struct Surroundings {
    /// The token before the oldest event.
    pub start: String,
    /// The token after the newest event.
    pub end: String,
    /// What came before, newest first.
    pub before: Vec<Box<RawValue>>,
    /// The event.
    pub event: Box<RawValue>,
    /// What came after, oldest first.
    pub after: Vec<Box<RawValue>>,
    /// The room's state at the last of these events, as far as the filter wants it.
    pub state: StateEvents,
}

impl Timeline {
    /// Reads an event and up to `limit` events around it.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when the event does not exist there or the user may not see it.
    pub async fn surroundings(
        self: &Arc<Self>,
        viewer: &Viewer,
        room_id: &RoomId,
        event_id: &EventId,
        limit: i64,
        filter: RoomEventFilter,
    ) -> Result<Surroundings> {
        let not_found = no_event;
        let room = self.open(viewer, room_id).await?;
        let centre = self.find_far(viewer, &room, event_id).await?.ok_or_else(not_found)?;
        let timeline_key = centre.row.timeline_key.ok_or_else(not_found)?;
        let limit = limit.clamp(0, AROUND_MAX);
        let span = |direction, limit, from| Span {
            from: TimelineToken(from),
            to: None,
            direction,
            limit,
            bytes_max: AROUND_BYTES_MAX,
            rows_max: SCANNED_MAX,
            filter: &filter,
            relations: None,
        };
        let format = ClientFormat::WithRoom;
        let backward = span(Direction::Backward, limit / 2, timeline_key - 1);
        let (mut before, _) = self.scan(viewer, &room, backward.clone()).await?;
        // As on a page: what is missing further down other servers may have.
        if i64::try_from(before.len()).is_ok_and(|count| count < limit / 2)
            && self.history.fetch_history(&room).await?
        {
            (before, _) = self.scan(viewer, &room, backward).await?;
        }
        let before_json =
            self.render_within(viewer, &room, &before, format, AROUND_BYTES_MAX).await?;
        before.truncate(before_json.len());
        let forward = span(Direction::Forward, limit - limit / 2, timeline_key);
        let (mut after, _) = self.scan(viewer, &room, forward).await?;
        let after_json =
            self.render_within(viewer, &room, &after, format, AROUND_BYTES_MAX).await?;
        after.truncate(after_json.len());
        let oldest = before.last().and_then(|shown| shown.row.timeline_key).unwrap_or(timeline_key);
        let newest = after.last().and_then(|shown| shown.row.timeline_key).unwrap_or(timeline_key);
        let lazy = filter::lazy_loads(&filter);
        let state = if lazy {
            let mut all = before.clone();
            all.extend(after.iter().cloned());
            all.push(centre.clone());
            self.senders(viewer, &room, &all).await?
        } else {
            let last = after.iter().rev().chain([&centre]).chain(&before);
            self.state_around(viewer, &room, last, filter).await?
        };
        let centre = [centre];
        let event = self.render(viewer, &room, &centre, format, Bundles::All).await?.pop();
        Ok(Surroundings {
            start: TimelineToken(oldest - 1).to_string(),
            end: TimelineToken(newest).to_string(),
            before: before_json,
            event: event.ok_or_else(not_found)?,
            after: after_json,
            state,
        })
    }

    /// Reads what is wanted of the state after the first of these events, the last of some, that shows
    /// it; if none does, for they are only about the viewer, of the state he may read anyway.
    async fn state_around(
        self: &Arc<Self>,
        viewer: &Viewer,
        room: &Arc<Room>,
        mut newest_first: impl Iterator<Item = &Shown>,
        filter: RoomEventFilter,
    ) -> Result<StateEvents> {
        let (viewer, room) = (viewer.clone(), Arc::clone(room));
        let shown = newest_first.find(|shown| shown.shows_state);
        let state = match shown.and_then(|shown| shown.row.state_after) {
            Some(state) => state,
            None => match self.readable_state(&viewer, &room.room_id).await {
                Ok(readable) => readable.state,
                Err(Error::Client(_)) => return Ok(StateEvents::none(self, viewer, room)),
                Err(error) => return Err(error),
            },
        };
        let keep = move |event: &Event| filter::wants(&filter, event);
        self.state_events(viewer, room, state, &[Part::Core, Part::Member], keep).await
    }
}
