//! A joined room in an answer: its timeline since the token, the state that goes with it, counts,
//! receipts, who types.

use colonnade_model::{
    nid::EventNid,
    ruma::api::client::filter::EventFormat,
    stream::{Position, Stream},
    token::TimelineToken,
};
use colonnade_rooms::{Error, Result, Room, Viewpoint};
use colonnade_storage::rooms::{
    events::{self, EventFlags, Piece, Range},
    gaps,
    members::{self, Member, Membership},
};
use futures_util::{
    StreamExt as _,
    stream::{self, try_unfold},
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    at_hand::AtHand,
    chunk::{SyncRange, TimelineChunk},
    fields::{federation_format, with_fields},
    filter,
    notifier::RoomHead,
    response::{Summary, TimelinePart},
    service::{Sync, SyncContext},
    state::state_key,
    writer::{Elements, Writer, all, elements, is_empty},
};
use crate::timeline::Shown;

/// Events of a room in one answer if the client does not say.
const TIMELINE_DEFAULT: i64 = 10;
/// Events of a room in one answer at most.
const TIMELINE_MAX: i64 = 1_000;
/// Rows read for one room's timeline while a filter throws most of them away.
const SCANNED_MAX: usize = 3_000;

impl Sync {
    /// Writes the part of a joined room, unless there is nothing to tell after all.
    pub(super) async fn joined(
        &self,
        context: &SyncContext,
        room: &Room,
        member: &Member,
        head: RoomHead,
        out: &mut Writer,
    ) -> Result<()> {
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
        let at_hand = self.at_hand(context, member, head).await?;
        let (timeline, mut state, summary) = match gap.whole || head.events > since {
            true => self.said(context, room, gap, (was_in, &at_hand)).await?,
            false => (TimelinePart::default(), all(Vec::new()), Summary::default()),
        };
        let mut ephemeral = self.ephemeral(context, room, head, was_in)?;
        let since_data = if was_in { context.since(Stream::AccountData) } else { 0 };
        let mut account_data = self.room_data(context, room, since_data).await?;
        let has_news = gap.whole
            || !timeline.events.is_empty()
            || timeline.limited
            || !is_empty(&mut ephemeral).await
            || !is_empty(&mut account_data).await
            || !is_empty(&mut state).await;
        if !has_news {
            return Ok(());
        }
        let (unread, by_thread) = self.unread(context, room, &at_hand).await?;
        out.begin_room("join", &room.room_id);
        out.timeline(timeline).await?;
        if !summary.is_empty() {
            out.field("summary", &summary)?;
        }
        out.field("unread_notifications", &unread)?;
        if !by_thread.is_empty() {
            out.field("unread_thread_notifications", &by_thread)?;
        }
        out.events("ephemeral", ephemeral).await?;
        out.events("account_data", account_data).await?;
        out.events(state_key(context), state).await?;
        out.end_room();
        Ok(())
    }

    /// Returns what is in memory of a room the user is in. Who comes to it for the first time wants more than
    /// what is newest, and each of his rooms would be read for that.
    async fn at_hand(
        &self,
        context: &SyncContext,
        member: &Member,
        head: RoomHead,
    ) -> Result<AtHand> {
        // Of one who only looks into the room, no event says that he is in it.
        let point = (member.event != EventNid(0)).then(|| Viewpoint::joined(member.clone()));
        let recent = match context.since {
            None => None,
            Some(_) => {
                let upto = context.now(Stream::Events).min(head.events);
                Some(self.from.recent.said(member.room, upto).await?)
            }
        };
        Ok(AtHand { recent, point })
    }

    /// What was said in a room, the state that goes with it, and who is there if that changed.
    async fn said<'a>(
        &'a self,
        context: &'a SyncContext,
        room: &'a Room,
        gap: SyncRange,
        (was_in, at_hand): (bool, &AtHand),
    ) -> Result<(TimelinePart, Elements<'a>, Summary)> {
        let mut chunk = self.timeline_chunk(context, room, (gap.after, gap.upto), at_hand).await?;
        // What the client may have of an earlier stay does not join up with this timeline.
        chunk.limited |= context.since.is_some() && !was_in;
        let missing = self.missing_state(context, room, &chunk, (gap, at_hand)).await?;
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
        context: &SyncContext,
        room: &Room,
        (after, upto): (Position, Position),
        at_hand: &AtHand,
    ) -> Result<TimelineChunk> {
        let wanted = &context.request.filter.room.timeline;
        let limit = wanted.limit.map_or(TIMELINE_DEFAULT, |limit| {
            i64::try_from(u64::from(limit)).unwrap_or(i64::MAX).clamp(0, TIMELINE_MAX)
        });
        let bytes_max = context.timelines.room();
        let limit = if bytes_max == 0 { 0 } else { usize::try_from(limit).unwrap_or(0) };
        let mut found: Vec<Shown> = Vec::new();
        let (mut top, mut scanned, mut bytes, mut more) = (upto, 0, 0, true);
        let mut has_gap = false;
        let timeline = &self.from.timeline;
        while more && found.len() <= limit && bytes < bytes_max.max(1) && scanned < SCANNED_MAX {
            let block = (limit + 1 - found.len()).max(20) as i64;
            let range = Range { after, upto: top, newest_first: true, limit: block };
            let (mut page, is_last) = self.live(room, range, at_hand).await?;
            more = !is_last;
            scanned += page.len();
            let Some(lowest) = page.last().and_then(|shown| shown.row.pos) else { break };
            top = lowest - 1;
            if let Some(first) = self.after_gap(room, &page).await? {
                // Nobody knows here what was said before this.
                page.truncate(first + 1);
                (has_gap, more) = (true, false);
            }
            page.retain(|shown| self.is_wanted(context, shown));
            let page = match &at_hand.point {
                Some(point) => timeline.visible_from(&context.viewer, point, page).await?,
                None => timeline.visible(&context.viewer, page).await?,
            };
            bytes += page.iter().map(|shown| shown.row.event.json().len()).sum::<usize>();
            found.extend(page);
        }
        let known = found.len();
        found.truncate(limit);
        let mut json = self.rendered(context, room, &mut found, (bytes_max, at_hand)).await?;
        let shown_bytes = json.iter().map(|event| event.get().len()).sum();
        context.timelines.tell(shown_bytes);
        let is_cut = bytes >= bytes_max.max(1) || scanned >= SCANNED_MAX;
        let limited = has_gap || known > found.len() || (more && is_cut);
        found.reverse();
        json.reverse();
        let prev_batch = match found.first().and_then(|first| first.row.timeline_key) {
            Some(timeline_key) => Some(TimelineToken(timeline_key - 1)),
            None => {
                let range = Range { after: 0, upto, newest_first: true, limit: 1 };
                let newest = self.live(room, range, at_hand).await?.0.pop();
                newest.and_then(|newest| newest.row.timeline_key).map(TimelineToken)
            }
        };
        Ok(TimelineChunk { events: found, json, limited, prev_batch })
    }

    /// Returns live events of a room, newest first, and whether there are no more of them in the range.
    async fn live(
        &self,
        room: &Room,
        range: Range,
        at_hand: &AtHand,
    ) -> Result<(Vec<Shown>, bool)> {
        if let Some((events, is_last)) = at_hand.newest(range) {
            let current = events.into_iter().map(|event| self.from.rooms.current(event));
            return Ok((current.map(Shown::from).collect(), is_last));
        }
        let Piece { events: rows, is_last } =
            events::live(&self.context.db, room.nid, range).await?;
        Ok((self.from.timeline.shown(rows).await?, is_last))
    }

    /// Returns where among events, newest first, one stands before which history is missing.
    async fn after_gap(&self, room: &Room, page: &[Shown]) -> Result<Option<usize>> {
        let is_one = |shown: &&Shown| shown.row.flags.has(EventFlags::AFTER_GAP);
        let one: Vec<EventNid> = page.iter().filter(is_one).map(|shown| shown.row.nid).collect();
        if one.is_empty() {
            return Ok(None);
        }
        let open = gaps::after_gaps(&self.context.db, room.nid, &one).await?;
        Ok(page.iter().position(|shown| open.contains(&shown.row.nid)))
    }

    pub(super) fn is_wanted(&self, context: &SyncContext, shown: &Shown) -> bool {
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
        context: &SyncContext,
        room: &Room,
        found: &mut Vec<Shown>,
        (bytes_max, at_hand): (usize, &AtHand),
    ) -> Result<Vec<Box<RawValue>>> {
        let how = (context.format(), bytes_max);
        let recent = at_hand.recent();
        let (timeline, viewer) = (&self.from.timeline, &context.viewer);
        let filter = &context.request.filter;
        let events = if filter.event_format == EventFormat::Federation {
            federation_format(found)
        } else {
            timeline.render_recent_within(viewer, room, found, how, recent).await?
        };
        found.truncate(events.len());
        Ok(with_fields(events, filter.event_fields.as_deref()))
    }

    /// Returns receipts, a thousand in one event at most, and who types.
    fn ephemeral<'a>(
        &'a self,
        context: &'a SyncContext,
        room: &'a Room,
        head: RoomHead,
        was_in: bool,
    ) -> Result<Elements<'a>> {
        let wanted = &context.request.filter.room.ephemeral;
        if !filter::wants_room(wanted, &room.room_id) {
            return Ok(all(Vec::new()));
        }
        let mut typing = Vec::new();
        if filter::wants_type(wanted, "m.typing") {
            let since = if was_in { context.since(Stream::Typing) } else { 0 };
            // A token of an earlier process may stand above the positions of this one.
            let since = if since > context.now(Stream::Typing) { 0 } else { since };
            if let Some(users) = self.from.typing.changed(room.nid, since)
                && (was_in && since > 0 || !users.is_empty())
            {
                typing.push(event("m.typing", &json!({ "user_ids": users }))?);
            }
        }
        let since = if was_in { context.since(Stream::Receipts) } else { 0 };
        let is_due = head.receipts > since && filter::wants_type(wanted, "m.receipt");
        let viewer = context.viewer.user;
        let upto = context.now(Stream::Receipts).min(head.receipts);
        let receipts = try_unfold(is_due.then_some(since), move |after| async move {
            let Some(after) = after else { return Ok(None) };
            let found = self.from.receipts.content(room.nid, viewer, after, upto).await?;
            let Some((content, next)) = found else { return Ok(None) };
            Ok(Some((vec![event("m.receipt", &content)?], next)))
        });
        Ok(elements(receipts.chain(stream::iter([Ok(typing)]))))
    }
}

/// Renders an event that is made here.
fn event(event_type: &str, content: &Value) -> Result<Box<RawValue>> {
    to_raw_value(&json!({ "type": event_type, "content": content }))
        .map_err(|error| Error::internal("render an ephemeral event", error))
}
