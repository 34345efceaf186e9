//! Pages of a room's timeline, and single events.
//!
//! A token `t` and a timeline key stands between two events: what has a key up to it lies before it.

use std::sync::Arc;

use colonnade_model::{
    ruma::{EventId, OwnedUserId, RoomId, api::client::filter::RoomEventFilter},
    token::TimelineToken,
};
use colonnade_rooms::{Result, Room, no_event};
use colonnade_rules::event::ClientFormat;
use colonnade_storage::rooms::{
    aggregations::Direction,
    events::{self, EventFlags, Piece, Range},
    heads as room_rows,
    state::Part,
};
use serde_json::value::RawValue;

use super::{Bundles, PAGE_BYTES_MAX, Shown, StateEvents, Timeline, Viewer};
use crate::sync::filter::{self, Relations};

/// Events on a page at most, whatever the client asks for.
pub(super) const PAGE_MAX: i64 = 1_000;
/// Rows read at a time while filters throw most of them away.
const BLOCK_MIN: i64 = 50;
/// Rows read for one page at most; a stricter filter gets a shorter page and a token to go on.
pub(super) const SCANNED_MAX: i64 = 5_000;

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Where the page starts; `None` is the newest end (backward) or the oldest (forward).
    pub from: Option<String>,
    /// Where it ends at the latest.
    pub to: Option<String>,
    /// Which way it goes.
    pub direction: Direction,
    /// How many events at most.
    pub limit: i64,
    /// Which events.
    pub filter: RoomEventFilter,
    /// Which of them by what they relate to.
    pub relations: Relations,
}

/// A stretch of a timeline to read.
#[derive(Clone)]
pub(super) struct Span<'a> {
    /// Where it starts.
    pub(super) from: TimelineToken,
    /// Where it ends at the latest.
    pub(super) to: Option<TimelineToken>,
    /// Which way it goes.
    pub(super) direction: Direction,
    /// How many events at most.
    pub(super) limit: i64,
    /// How many bytes of them, and one event more at most.
    pub(super) bytes_max: usize,
    /// How many rows are read for them at most.
    pub(super) rows_max: i64,
    /// Which events.
    pub(super) filter: &'a RoomEventFilter,
    /// Which of them by what they relate to; `None`: all.
    pub(super) relations: Option<&'a Relations>,
}

/// A page of the timeline.
pub struct Page {
    /// The token it starts at.
    pub start: String,
    /// The token to go on from; `None` at the end.
    pub end: Option<String>,
    /// The events in the order of the direction.
    pub chunk: Vec<Box<RawValue>>,
    /// The member events of the senders, if members are loaded lazily; otherwise none.
    pub state: StateEvents,
}

impl Timeline {
    /// Reads a page of a room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the user may not look into the room at all.
    pub async fn page(
        self: &Arc<Self>,
        viewer: &Viewer,
        room_id: &RoomId,
        request: PageRequest,
    ) -> Result<Page> {
        let room = self.open(viewer, room_id).await?;
        let newest =
            room_rows::head(&self.context.db, room.nid).await?.map_or(0, |h| h.last_timeline_key);
        let from = match (&request.from, request.direction) {
            (Some(token), _) => self.place_of(&room, token).await?,
            (None, Direction::Backward) => TimelineToken(newest),
            (None, Direction::Forward) => TimelineToken(i64::MIN),
        };
        let to = match &request.to {
            Some(token) => Some(self.place_of(&room, token).await?),
            None => None,
        };
        let span = Span {
            from,
            to,
            direction: request.direction,
            limit: request.limit,
            bytes_max: PAGE_BYTES_MAX,
            rows_max: SCANNED_MAX,
            filter: &request.filter,
            relations: Some(&request.relations),
        };
        let wanted = usize::try_from(request.limit.clamp(0, PAGE_MAX)).unwrap_or(0);
        let (mut shown, mut end) = self.scan(viewer, &room, span.clone()).await?;
        // What is missing further down other servers may have: asked for once for a page.
        if request.direction == Direction::Backward
            && shown.len() < wanted
            && self.history.fetch_history(&room).await?
        {
            (shown, end) = self.scan(viewer, &room, span).await?;
        }
        let format = ClientFormat::WithRoom;
        let chunk = self.render_within(viewer, &room, &shown, format, PAGE_BYTES_MAX).await?;
        if chunk.len() < shown.len() {
            shown.truncate(chunk.len());
            end = shown.last().and_then(|last| beyond(last, request.direction)).or(end);
        }
        let state = match filter::lazy_loads(&request.filter) {
            true => self.senders(viewer, &room, &shown).await?,
            false => StateEvents::none(self, viewer.clone(), room),
        };
        let end = end.map(|token| token.to_string());
        Ok(Page { start: from.to_string(), end, chunk, state })
    }

    /// Reads rows until the page is full or the range is at its end, and returns where to go on: nowhere
    /// if there was nothing. A page that reaches the end says so only by an empty one after it, since
    /// clients take a page without `end` for the beginning of the timeline and start over.
    pub(super) async fn scan(
        &self,
        viewer: &Viewer,
        room: &Room,
        span: Span<'_>,
    ) -> Result<(Vec<Shown>, Option<TimelineToken>)> {
        if !filter::wants_room(span.filter, &room.room_id) {
            return Ok((Vec::new(), None));
        }
        let ignored = self.ignored(viewer).await?;
        let backward = span.direction == Direction::Backward;
        let limit = span.limit.clamp(0, PAGE_MAX);
        let wanted = usize::try_from(limit).unwrap_or(0);
        let (mut after, mut upto) = match backward {
            true => (span.to.map_or(i64::MIN, |to| to.0), span.from.0),
            false => (span.from.0, span.to.map_or(i64::MAX, |to| to.0)),
        };
        let mut page: Vec<Shown> = Vec::new();
        let (mut scanned, mut bytes, mut at_end) = (0, 0, false);
        let mut is_full = wanted == 0;
        while !is_full && scanned < span.rows_max && !at_end {
            let block = (limit - page.len() as i64).max(BLOCK_MIN);
            let range = Range { after, upto, newest_first: backward, limit: block };
            let Piece { events: rows, is_last } =
                events::timeline(&self.context.db, room.nid, range).await?;
            at_end = is_last;
            scanned += rows.len() as i64;
            let Some(last_timeline_key) = rows.last().and_then(|row| row.timeline_key) else {
                break;
            };
            let shown = self.shown(rows).await?;
            let shown = shown.into_iter().filter(|shown| {
                !shown.row.flags.has(EventFlags::SOFT_FAILED)
                    && filter::wants(span.filter, &shown.row.event)
                    && span.relations.is_none_or(|some| some.want(&shown.row.event))
                    && (shown.row.state_key_nid.is_some() || !self.is_from(shown, &ignored))
            });
            for shown in self.visible(viewer, shown.collect()).await? {
                bytes += shown.row.event.json().len();
                page.push(shown);
                is_full = page.len() >= wanted || bytes >= span.bytes_max;
                if is_full {
                    break;
                }
            }
            if backward { upto = last_timeline_key - 1 } else { after = last_timeline_key }
        }
        if page.is_empty() && at_end {
            return Ok((page, None));
        }
        let last = page.last().filter(|_| is_full);
        let beyond_last = last.and_then(|last| beyond(last, span.direction));
        let scanned_upto = TimelineToken(if backward { upto } else { after });
        Ok((page, Some(beyond_last.unwrap_or(scanned_upto))))
    }

    /// Makes ready to read the member events of the senders of a page.
    pub(super) async fn senders(
        self: &Arc<Self>,
        viewer: &Viewer,
        room: &Arc<Room>,
        page: &[Shown],
    ) -> Result<StateEvents> {
        let mut members = StateEvents::none(self, viewer.clone(), Arc::clone(room));
        // As of the newest event: the oldest may be from before some of the senders came.
        let newest =
            page.iter().filter(|shown| shown.shows_state).max_by_key(|s| s.row.timeline_key);
        let Some(state) = newest.and_then(|shown| shown.row.state_after) else {
            return Ok(members);
        };
        let mut senders: Vec<&str> = page.iter().map(|s| s.row.event.sender().as_str()).collect();
        senders.sort_unstable();
        senders.dedup();
        let mut keys = Vec::with_capacity(senders.len());
        for sender in senders {
            keys.extend(self.context.interned.find_state_key_nid("m.room.member", sender).await?);
        }
        let nids = self.rooms.states().lookup_many(state, Part::Member, &keys).await?;
        members.left = nids.into_iter().flatten().collect();
        Ok(members)
    }

    /// Reads one event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when it does not exist in that room or the user may not see it.
    pub async fn event(
        &self,
        viewer: &Viewer,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Box<RawValue>> {
        let not_found = no_event;
        let room = self.open(viewer, room_id).await.map_err(|error| match error {
            colonnade_rooms::Error::Client(_) => not_found().into(),
            other => other,
        })?;
        let shown = self.find(viewer, &room, event_id).await?.ok_or_else(not_found)?;
        let page = [shown];
        let json = self.render(viewer, &room, &page, ClientFormat::WithRoom, Bundles::All).await?;
        Ok(json.into_iter().next().ok_or_else(not_found)?)
    }

    /// Reads one event, whichever room it is in.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when it does not exist or the user may not see it.
    pub async fn event_anywhere(
        &self,
        viewer: &Viewer,
        event_id: &EventId,
    ) -> Result<Box<RawValue>> {
        let room = self.rooms.room_of(event_id).await?.ok_or_else(no_event)?;
        self.event(viewer, &room.room_id, event_id).await
    }

    /// Finds an event of a room that the viewer may see.
    pub(super) async fn find(
        &self,
        viewer: &Viewer,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<Shown>> {
        let seen = self.rooms.seen(viewer.eye(), room, event_id).await?;
        let page = seen.into_iter().map(|(row, _)| Shown::from(row)).collect();
        Ok(self.visible(viewer, page).await?.pop())
    }

    /// Returns whom the viewer ignores.
    pub(super) async fn ignored(&self, viewer: &Viewer) -> Result<Vec<OwnedUserId>> {
        Ok(self.account_data.ignored(viewer.user).await?.iter().cloned().collect())
    }
}

/// Returns where a page goes on that ends with an event.
fn beyond(last: &Shown, direction: Direction) -> Option<TimelineToken> {
    let timeline_key = last.row.timeline_key?;
    Some(TimelineToken(if direction == Direction::Backward {
        timeline_key - 1
    } else {
        timeline_key
    }))
}

#[cfg(test)]
mod tests {
    use colonnade_testkit_rooms::room_event;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_goes_on_before_its_last_event_or_behind_it() {
        let mut last = Shown::from(room_event(7, "m.test", None, json!({})));
        assert_eq!(beyond(&last, Direction::Backward), Some(TimelineToken(6)));
        assert_eq!(beyond(&last, Direction::Forward), Some(TimelineToken(7)));
        Arc::make_mut(&mut last.row).timeline_key = None;
        assert_eq!(beyond(&last, Direction::Backward), None);
    }
}
