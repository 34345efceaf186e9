//! What was said in all rooms of a user, in the one order in which it became visible: a page of it, oldest
//! first, that goes on where it ends.

use std::collections::HashMap;

use colonnade_model::{
    nid::{EventNid, RoomNid},
    stream::{Position, Stream},
};
use colonnade_rooms::Result;
use colonnade_storage::rooms::{
    arrivals,
    members::{Member, Membership},
};
use serde_json::value::RawValue;

use super::{
    notifier::RoomHead,
    service::{Memberships, Sync, SyncContext},
};
use crate::timeline::{Invitations, PAGE_BYTES_MAX, Shown};

/// Positions of the stream that are read at a time: whoever was away for long reads in parts, however much
/// his rooms have.
const WINDOW: Position = 10_000;
/// So many of them for one page. What is not reached then comes with the next.
const WINDOWS_MAX: usize = 20;
/// Events that are looked at together.
const BLOCK: i64 = 100;

/// A page of what was said in several rooms.
pub(super) struct EventPage {
    /// The events, oldest first.
    pub(super) chunk: Vec<Box<RawValue>>,
    /// Up to where that is all there is.
    pub(super) upto: Position,
}

/// The rooms something is read of.
struct Due<'a> {
    /// Those the user is or was in, and up to where.
    rooms: HashMap<RoomNid, Position>,
    /// Those he was invited to, or knocked at.
    invitations: Vec<&'a Member>,
}

impl Sync {
    /// Reads the events that the user may see, at most `limit`, one at least if there is any.
    pub(super) async fn said_across(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        heads: &[RoomHead],
        limit: usize,
    ) -> Result<EventPage> {
        let due = self.due(context, memberships, heads).await?;
        let (mut upto, now) = (context.since(Stream::Events), context.now(Stream::Events));
        if due.rooms.is_empty() && due.invitations.is_empty() {
            return Ok(EventPage { chunk: Vec::new(), upto: now });
        }
        let (mut page, mut bytes, mut is_full) = (Vec::new(), 0, false);
        for _ in 0..WINDOWS_MAX {
            let (found, reached) = self.block(context, &due, (upto, now)).await?;
            upto = reached;
            for (pos, shown) in found {
                bytes += shown.row.event.json().len();
                page.push(shown);
                is_full = page.len() >= limit.max(1) || bytes >= PAGE_BYTES_MAX;
                if is_full {
                    upto = pos;
                    break;
                }
            }
            if is_full || upto >= now {
                break;
            }
        }
        let invitations = self.invitations(&due, &page).await?;
        let timeline = &self.from.timeline;
        let chunk = timeline.render_across(&context.viewer, &page, &invitations).await?;
        Ok(EventPage { chunk, upto })
    }

    /// Says of which rooms something is read.
    async fn due<'a>(
        &self,
        context: &SyncContext,
        memberships: &'a Memberships,
        heads: &[RoomHead],
    ) -> Result<Due<'a>> {
        let (since, now) = (context.since(Stream::Events), context.now(Stream::Events));
        let invites = self.invites(context, memberships, false).await?;
        let mut due = Due { rooms: HashMap::new(), invitations: Vec::new() };
        for (member, head) in memberships.rooms.iter().zip(heads) {
            let is_new = member.pos > since && member.pos <= now;
            match member.membership {
                Membership::Join if head.events > since => {
                    due.rooms.insert(member.room, now);
                }
                Membership::Leave | Membership::Ban if is_new => {
                    due.rooms.insert(member.room, member.pos);
                }
                Membership::Invite if is_new && invites.shows(member, true) => {
                    let sender = self.context.interned.user_id(member.sender).await?;
                    if !context.ignored.contains(&sender) {
                        due.invitations.push(member);
                    }
                }
                Membership::Knock if is_new => due.invitations.push(member),
                _ => {}
            }
        }
        Ok(due)
    }

    /// Reads the next events after a position, those that the user may see with their positions, and up to
    /// where that is all.
    async fn block(
        &self,
        context: &SyncContext,
        due: &Due<'_>,
        (after, now): (Position, Position),
    ) -> Result<(Vec<(Position, Shown)>, Position)> {
        let top = now.min(after.saturating_add(WINDOW));
        let rooms: Vec<RoomNid> = due.rooms.keys().copied().collect();
        let read = match rooms.is_empty() {
            true => Vec::new(),
            false => arrivals::read(&self.context.db, &rooms, (after, top), BLOCK).await?,
        };
        let last = read.last().filter(|_| read.len() as i64 >= BLOCK);
        let mut reached = last.map_or(top, |last| last.pos);
        let arrived =
            read.iter().filter(|one| due.rooms.get(&one.room).is_some_and(|upto| one.pos <= *upto));
        let mut found: Vec<(Position, EventNid)> =
            arrived.map(|one| (one.pos, one.event)).collect();
        let invitations = due.invitations.iter().map(|member| (member.pos, member.event));
        found.extend(invitations.filter(|(pos, _)| *pos > after && *pos <= reached));
        found.sort_unstable();
        let fitting = found.iter().map(|(_, nid)| *nid);
        let fitting = self.from.timeline.fitting(fitting, PAGE_BYTES_MAX).await?;
        if fitting < found.len() {
            found.truncate(fitting);
            reached = found.last().map_or(reached, |(pos, _)| *pos);
        }
        let nids: Vec<EventNid> = found.iter().map(|(_, nid)| *nid).collect();
        let seen = self.seen_of(context, due, &nids).await?;
        let found = found.into_iter().filter_map(|(pos, nid)| Some((pos, seen.get(&nid)?.clone())));
        Ok((found.collect(), reached))
    }

    /// Returns those of some events that the user may see and wants to.
    async fn seen_of(
        &self,
        context: &SyncContext,
        due: &Due<'_>,
        nids: &[EventNid],
    ) -> Result<HashMap<EventNid, Shown>> {
        let events = self.from.timeline.read(nids).await?;
        // What invites the user is shown to him, though he may not look into the room.
        let is_invitation =
            |shown: &Shown| due.invitations.iter().any(|member| member.event == shown.row.nid);
        let (invitations, said): (Vec<Shown>, Vec<Shown>) =
            events.into_iter().partition(is_invitation);
        let said = said.into_iter().filter(|shown| self.is_wanted(context, shown)).collect();
        let said = self.from.timeline.visible(&context.viewer, said).await?;
        Ok(said.into_iter().chain(invitations).map(|shown| (shown.row.nid, shown)).collect())
    }

    /// Returns what the user is shown of the rooms he was invited to by events of a page.
    async fn invitations(&self, due: &Due<'_>, page: &[Shown]) -> Result<Invitations> {
        let mut left = self.context.settings.limits.invite_states_bytes_max as usize;
        let mut invitations = Invitations::new();
        for member in &due.invitations {
            if page.iter().any(|shown| shown.row.nid == member.event) {
                invitations.insert(member.event, self.stripped(member, &mut left).await?);
            }
        }
        Ok(invitations)
    }
}
