//! Pages of events that relate to another one, and of a room's threads.

use colonnade_model::{
    MatrixError,
    nid::EventNid,
    ruma::{EventId, RoomId},
    token::{BadToken, TimelineToken},
};
use colonnade_rooms::{Result, Room, no_event};
use colonnade_rules::event::ClientFormat;
use colonnade_storage::rooms::{
    aggregations::{self, Direction, Related, Roots},
    events::EventFlags,
};
use serde_json::value::RawValue;

use super::{PAGE_BYTES_MAX, Shown, Timeline, Viewer};
use std::sync::Arc;

/// Related events or threads on a page at most.
const RELATED_MAX: i64 = 100;
/// On a page when the client does not say how many.
const RELATED_DEFAULT: i64 = 20;

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct RelatedRequest {
    /// Only this relation type.
    pub rel_type: Option<String>,
    /// Only this event type.
    pub event_type: Option<String>,
    /// Also indirect relations.
    pub recurse: bool,
    /// Where the page starts.
    pub from: Option<String>,
    /// Where it ends at the latest.
    pub to: Option<String>,
    /// Oldest first instead of newest first.
    pub forward: bool,
    /// How many at most.
    pub limit: Option<i64>,
}

/// A page of related events, or of thread roots.
#[derive(Debug, Default)]
pub struct RelatedPage {
    /// The events.
    pub chunk: Vec<Box<RawValue>>,
    /// The token to go on from.
    pub next: Option<String>,
    /// The token the page started at.
    pub prev: Option<String>,
}

impl Timeline {
    /// Reads a page of events that relate to an event.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when the event is not there for the user; `M_INVALID_PARAM` for bad tokens.
    pub async fn related(
        &self,
        viewer: &Viewer,
        room_id: &RoomId,
        parent: &EventId,
        request: RelatedRequest,
    ) -> Result<RelatedPage> {
        let room = self.open(viewer, room_id).await?;
        let parent = self.find(viewer, &room, parent).await?;
        let parent = parent.ok_or_else(no_event)?;
        let limit = request.limit.unwrap_or(RELATED_DEFAULT).clamp(0, RELATED_MAX);
        let wanted = Related {
            room: room.nid,
            parent: parent.row.nid,
            rel_type: request.rel_type.as_deref(),
            event_type: request.event_type.as_deref(),
            recurse: request.recurse,
            from: self.place(&room, request.from.as_deref()).await?,
            to: self.place(&room, request.to.as_deref()).await?,
            direction: if request.forward { Direction::Forward } else { Direction::Backward },
            limit: limit + 1,
        };
        let lens = self.lens(viewer, &room).await?;
        let mut found = aggregations::related(&self.context.db, wanted, &lens).await?;
        let mut more = self.shorten(&mut found, limit).await?;
        let nids: Vec<_> = found.iter().map(|(nid, _)| *nid).collect();
        let page = self.visible(viewer, self.read(&nids).await?).await?;
        let format = ClientFormat::WithRoom;
        let chunk = self.render_within(viewer, &room, &page, format, PAGE_BYTES_MAX).await?;
        more |= end_with(&mut found, &page, chunk.len());
        let last = found.last().filter(|_| more);
        Ok(RelatedPage {
            chunk,
            next: last.map(|(_, timeline_key)| TimelineToken(*timeline_key).to_string()),
            prev: request.from,
        })
    }

    /// Reads a page of a room's threads, the most recently answered first. Of a root that somebody said
    /// whom the viewer ignores it shows what a redaction would leave.
    ///
    /// Source: Matrix v1.19, client-server, `GET /rooms/{roomId}/threads`, `chunk`.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room; `M_INVALID_PARAM` for a bad token.
    pub async fn threads(
        &self,
        viewer: &Viewer,
        room_id: &RoomId,
        participated: bool,
        from: Option<&str>,
        limit: Option<i64>,
    ) -> Result<RelatedPage> {
        let room = self.open(viewer, room_id).await?;
        let limit = limit.unwrap_or(RELATED_DEFAULT).clamp(1, RELATED_MAX);
        let wanted = Roots {
            room: room.nid,
            participant: participated.then_some(viewer.user),
            before: place_among_threads(from)?,
            limit: limit + 1,
        };
        let lens = self.lens(viewer, &room).await?;
        let mut roots = aggregations::thread_roots(&self.context.db, wanted, &lens).await?;
        let mut more = self.shorten(&mut roots, limit).await?;
        let nids: Vec<_> = roots.iter().map(|(nid, _)| *nid).collect();
        let mut page = self.visible(viewer, self.read(&nids).await?).await?;
        let ignored = self.ignored(viewer).await?;
        for shown in page.iter_mut().filter(|shown| shown.row.state_key_nid.is_none()) {
            if self.is_from(shown, &ignored) {
                self.redact(shown).await?;
                // So that no edit tells it after all.
                let flags = shown.row.flags.with(EventFlags::REDACTED);
                Arc::make_mut(&mut shown.row).flags = flags;
            }
        }
        let format = ClientFormat::WithRoom;
        let chunk = self.render_within(viewer, &room, &page, format, PAGE_BYTES_MAX).await?;
        more |= end_with(&mut roots, &page, chunk.len());
        let last = roots.last().filter(|_| more);
        Ok(RelatedPage {
            chunk,
            next: last.map(|(_, pos)| TimelineToken(*pos).to_string()),
            prev: None,
        })
    }

    /// Leaves of events that were found, each with its place, what fits on a page of `limit` events; tells
    /// whether there are more.
    async fn shorten(&self, found: &mut Vec<(EventNid, i64)>, limit: i64) -> Result<bool> {
        let count = found.len();
        found.truncate(usize::try_from(limit).unwrap_or(0));
        let fitting = self.fitting(found.iter().map(|(nid, _)| *nid), PAGE_BYTES_MAX).await?;
        found.truncate(fitting);
        Ok(found.len() < count)
    }

    /// Finds what a token means: one of ours, of a page or of /sync.
    async fn place(&self, room: &Room, token: Option<&str>) -> Result<Option<i64>> {
        let Some(token) = token else { return Ok(None) };
        Ok(Some(self.place_of(room, token).await?.0))
    }
}

/// Ends what was found with the last event that was told, if of a page only the first ones were; tells
/// whether that is so.
fn end_with(found: &mut Vec<(EventNid, i64)>, page: &[Shown], fitting: usize) -> bool {
    let last = page[..fitting].last().filter(|_| fitting < page.len());
    let place = last.and_then(|last| found.iter().position(|(nid, _)| *nid == last.row.nid));
    if let Some(place) = place {
        found.truncate(place + 1);
    }
    place.is_some()
}

/// Reads a token of a page of threads, which are not in the order of the timeline.
fn place_among_threads(token: Option<&str>) -> Result<Option<i64>, MatrixError> {
    let parsed = token
        .map(|token| token.parse().map(|TimelineToken(timeline_key)| timeline_key))
        .transpose();
    parsed.map_err(|error: BadToken| MatrixError::invalid_param(error.to_string()))
}

#[cfg(test)]
mod tests {
    use colonnade_testkit_rooms::room_event;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_that_was_cut_ends_with_its_last_event() {
        let page: Vec<Shown> =
            [5, 3, 1].map(|nid| room_event(nid, "m.test", None, json!({})).into()).into();
        let cut = |fitting| {
            let mut found: Vec<_> = [5, 4, 3, 2, 1].map(|nid| (EventNid(nid), nid)).into();
            let was_cut = end_with(&mut found, &page, fitting);
            (was_cut, found.last().map(|(_, place)| *place))
        };
        assert_eq!(cut(2), (true, Some(3)), "what is behind it comes with the next page");
        assert_eq!(cut(1), (true, Some(5)));
        assert_eq!(cut(3), (false, Some(1)), "nothing was left out");
    }

    #[test]
    fn a_token_of_threads_is_read_or_refused() {
        assert_eq!(place_among_threads(None).unwrap(), None);
        let written = TimelineToken(-7).to_string();
        assert_eq!(place_among_threads(Some(&written)).unwrap(), Some(-7));
        for wrong in ["", "t", "7", "s7", "t7x"] {
            let error = place_among_threads(Some(wrong)).unwrap_err();
            assert_eq!(error.errcode, "M_INVALID_PARAM", "{wrong}");
        }
    }
}
