//! A joined room in an answer: its timeline since the token, the state that goes with it, counts,
//! receipts, who types.

use colonnade_model::{
    ruma::api::client::filter::EventFormat,
    stream::{Position, Stream},
    token::TimelineToken,
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::event::ClientFormat;
use colonnade_storage::rooms::{
    events::{self, EventFlags, Piece, Range},
    members::{self, Member, Membership},
};
use serde_json::{json, value::RawValue};

use super::{
    chunk::{SyncRange, TimelineChunk},
    fields::{federation_format, with_fields},
    filter,
    notifier::RoomHead,
    response::{JoinedRoom, Plain, StatePart, Summary, TimelinePart},
    service::{Sync, SyncContext},
};
use crate::timeline::Shown;

/// Events of a room in one answer if the client does not say.
const TIMELINE_DEFAULT: i64 = 10;
/// Events of a room in one answer at most.
const TIMELINE_MAX: i64 = 1_000;
/// Rows read for one room's timeline while a filter throws most of them away.
const SCANNED_MAX: usize = 3_000;

impl Sync {
    /// Makes the part of a joined room; `None` if there is nothing to tell after all.
    pub(super) async fn joined(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        member: &Member,
        head: RoomHead,
    ) -> Result<Option<JoinedRoom>> {
        let db = &self.context.db;
        let since = context.since(Stream::Events);
        let was_in = context.since.is_some()
            && (member.pos <= since || {
                let then = members::at(db, room.nid, member.user, since).await?;
                then.is_some_and(|then| then.membership == Membership::Join)
            });
        let after = if was_in { since } else { 0 };
        let upto = context.now(Stream::Events);
        let whole = !was_in || context.request.full_state;
        let gap = SyncRange { after, upto, whole, known_upto: Position::MAX };
        let (timeline, state, summary) = match gap.whole || head.events > since {
            true => self.said(context, room, gap, was_in).await?,
            false => (TimelinePart::default(), StatePart::none(context), Summary::default()),
        };
        let ephemeral = self.ephemeral(context, room, head, was_in).await?;
        let since_data = if was_in { context.since(Stream::AccountData) } else { 0 };
        let account_data = self.room_data(context, room, since_data).await?;
        context.growth.add(account_data.bytes()).await?;
        let has_news = gap.whole
            || !timeline.events.is_empty()
            || timeline.limited
            || !state.is_empty()
            || !ephemeral.events.is_empty()
            || !account_data.events.is_empty();
        if !has_news {
            return Ok(None);
        }
        let (unread, by_thread) = self.unread(context, room).await?;
        Ok(Some(JoinedRoom {
            timeline,
            state,
            summary,
            unread_notifications: unread,
            unread_thread_notifications: by_thread,
            ephemeral,
            account_data,
        }))
    }

    /// What was said in a room, the state that goes with it, and who is there if that changed.
    async fn said(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        gap: SyncRange,
        was_in: bool,
    ) -> Result<(TimelinePart, StatePart, Summary)> {
        let mut chunk = self.timeline_chunk(context, room, gap.after, gap.upto).await?;
        // What the client may have of an earlier stay does not join up with this timeline.
        chunk.limited |= context.since.is_some() && !was_in;
        let missing = self.missing_state(context, room, &chunk, gap).await?;
        let summary = match missing.members_moved || gap.whole {
            true => self.summary(context, room).await?,
            false => Summary::default(),
        };
        let heroes = summary.heroes.as_deref().unwrap_or_default();
        let state = self.state(context, room, &chunk, missing, heroes).await?;
        Ok((chunk.into(), state, summary))
    }

    /// Reads the newest events above `after` up to `upto` that the client wants and may see.
    pub(super) async fn timeline_chunk(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        after: i64,
        upto: i64,
    ) -> Result<TimelineChunk> {
        let wanted = &context.request.filter.room.timeline;
        let limit = wanted.limit.map_or(TIMELINE_DEFAULT, |limit| {
            i64::try_from(u64::from(limit)).unwrap_or(i64::MAX).clamp(0, TIMELINE_MAX)
        });
        let bytes_max = context.timelines.room();
        let limit = if bytes_max == 0 { 0 } else { usize::try_from(limit).unwrap_or(0) };
        let mut found: Vec<Shown> = Vec::new();
        let (mut top, mut scanned, mut bytes, mut more) = (upto, 0, 0, true);
        while more && found.len() <= limit && bytes < bytes_max.max(1) && scanned < SCANNED_MAX {
            let block = (limit + 1 - found.len()).max(20) as i64;
            let range = Range { after, upto: top, newest_first: true, limit: block };
            let Piece { events: rows, is_last } =
                events::live(&self.context.db, room.nid, range).await?;
            more = !is_last;
            scanned += rows.len();
            let Some(lowest) = rows.last().and_then(|row| row.pos) else { break };
            top = lowest - 1;
            let page = self.from.timeline.shown(rows).await?;
            let page = page.into_iter().filter(|shown| self.is_wanted(context, shown));
            let page = self.from.timeline.visible(&context.viewer, page.collect()).await?;
            bytes += page.iter().map(|shown| shown.row.event.json().len()).sum::<usize>();
            found.extend(page);
        }
        let known = found.len();
        found.truncate(limit);
        let mut json = self.rendered(context, room, &mut found, bytes_max).await?;
        let bytes = json.iter().map(|event| event.get().len()).sum();
        context.timelines.tell(bytes);
        context.growth.add(bytes).await?;
        let is_cut = bytes >= bytes_max.max(1) || scanned >= SCANNED_MAX;
        let limited = known > found.len() || (more && is_cut);
        found.reverse();
        json.reverse();
        let prev_batch = match found.first().and_then(|first| first.row.timeline_key) {
            Some(timeline_key) => Some(TimelineToken(timeline_key - 1)),
            None => {
                let range = Range { after: 0, upto, newest_first: true, limit: 1 };
                let row = events::live(&self.context.db, room.nid, range).await?.events.pop();
                row.and_then(|row| row.timeline_key).map(TimelineToken)
            }
        };
        Ok(TimelineChunk { events: found, json, limited, prev_batch })
    }

    fn is_wanted(&self, context: &SyncContext<'_>, shown: &Shown) -> bool {
        let wanted = &context.request.filter.room.timeline;
        !shown.row.flags.has(EventFlags::SOFT_FAILED)
            && filter::wants(wanted, &shown.row.event)
            && (shown.row.state_key_nid.is_some()
                || !self.from.timeline.is_from(shown, &context.ignored))
    }

    /// Renders the newest of the events that were found, which come first, as the client wants them, and
    /// leaves out those for which there is no room.
    async fn rendered(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        found: &mut Vec<Shown>,
        bytes_max: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let format = ClientFormat::WithoutRoom;
        let (timeline, viewer) = (&self.from.timeline, &context.viewer);
        let filter = &context.request.filter;
        let events = if filter.event_format == EventFormat::Federation {
            federation_format(found)
        } else {
            timeline.render_within(viewer, room, found, format, bytes_max).await?
        };
        found.truncate(events.len());
        Ok(with_fields(events, filter.event_fields.as_deref()))
    }

    async fn ephemeral(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        head: RoomHead,
        was_in: bool,
    ) -> Result<Plain> {
        let wanted = &context.request.filter.room.ephemeral;
        let mut events = Vec::new();
        if !filter::wants_room(wanted, &room.room_id) {
            return Ok(Plain::default());
        }
        let since = if was_in { context.since(Stream::Receipts) } else { 0 };
        if head.receipts > since && filter::wants_type(wanted, "m.receipt") {
            let (viewer, upto) = (context.viewer.user, context.now(Stream::Receipts));
            let receipts = &self.from.receipts;
            if let Some(content) = receipts.content(room.nid, viewer, since, upto).await? {
                events.push(json!({ "type": "m.receipt", "content": content }));
            }
        }
        if filter::wants_type(wanted, "m.typing") {
            let since = if was_in { context.since(Stream::Typing) } else { 0 };
            // A token of an earlier process may stand above the positions of this one.
            let since = if since > context.now(Stream::Typing) { 0 } else { since };
            if let Some(users) = self.from.typing.changed(room.nid, since)
                && (was_in && since > 0 || !users.is_empty())
            {
                let content = json!({ "user_ids": users });
                events.push(json!({ "type": "m.typing", "content": content }));
            }
        }
        Ok(Plain { events })
    }
}
