//! The state that goes with a chunk of timeline: what changed between the client's token and the
//! chunk that the chunk itself does not say. Read as a difference of two tries.

use colonnade_model::{
    nid::{EventNid, StateNid, UserNid},
    ruma::{OwnedUserId, api::client::filter::EventFormat},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::state::Part;
use futures_util::stream::try_unfold;
use serde_json::value::RawValue;

use super::{
    at_hand::AtHand,
    chunk::{SyncRange, TimelineChunk},
    fields::{federation_format, with_fields},
    filter,
    service::{Sync, SyncContext},
    writer::{Elements, elements},
};
use crate::timeline::{Bundles, Shown};

/// Users of a room of whom it is remembered that a device was sent their member event.
const LAZY_LOADED_USERS_MAX: usize = 2_000;

/// The state events a client lacks.
pub(super) struct MissingState {
    target: Option<StateNid>,
    whole: bool,
    core: Vec<EventNid>,
    members: Vec<EventNid>,
    /// Memberships changed, here or in the timeline.
    pub(super) members_moved: bool,
}

/// Returns the field the client looks for the state in.
pub(super) fn state_key(context: &SyncContext) -> &'static str {
    if context.request.use_state_after { "state_after" } else { "state" }
}

impl Sync {
    /// Finds which state events the client lacks.
    pub(super) async fn missing_state(
        &self,
        context: &SyncContext,
        room: &Room,
        chunk: &TimelineChunk,
        (gap, at_hand): (SyncRange, &AtHand),
    ) -> Result<MissingState> {
        let current = self.state_at(room, gap.upto.min(gap.known_upto), at_hand).await?;
        let known = match gap.whole {
            true => None,
            false => self.state_at(room, gap.after.min(gap.known_upto), at_hand).await?,
        };
        let first = chunk.events.iter().find(|shown| shown.shows_state);
        let first = first.map(|first| first.row.state_before);
        let target = match (context.request.use_state_after, first) {
            (true, _) | (false, None) => current,
            // Before the create event there is no state.
            (false, Some(before)) => before,
        };
        let target = target.filter(|_| gap.known_upto > 0);
        let core = self.moved(known, target, Part::Core).await?;
        let members = self.moved(known, target, Part::Member).await?;
        let said = chunk.events.iter().any(|shown| shown.row.event.membership().is_some());
        let members_moved = said || !members.is_empty();
        Ok(MissingState { target, whole: known.is_none(), core, members, members_moved })
    }

    /// Returns the state that was current at a position.
    pub(super) async fn state_at(
        &self,
        room: &Room,
        position: Position,
        at_hand: &AtHand,
    ) -> Result<Option<StateNid>> {
        match at_hand.state_at(position) {
            Some(state) => Ok(state),
            None => Ok(self.from.rooms.states().at(room.nid, position).await?),
        }
    }

    /// Returns the state part, which is read as it is told. Lazily loaded, it has the member events of
    /// the chunk's senders and of the heroes.
    pub(super) async fn state<'a>(
        &'a self,
        context: &'a SyncContext,
        room: &'a Room,
        chunk: &TimelineChunk,
        missing: MissingState,
        heroes: &[OwnedUserId],
    ) -> Result<Elements<'a>> {
        let filter = &context.request.filter;
        let wanted = &filter.room.state;
        let lazy = filter::lazy_loads(wanted) || filter::lazy_loads(&filter.room.timeline);
        let members = match lazy {
            true => self.lazily(context, room, chunk, &missing, heroes).await?,
            false => missing.members,
        };
        let left: Vec<EventNid> = members.into_iter().chain(missing.core).collect();
        Ok(elements(try_unfold(left, move |mut left| async move {
            let next = self.from.timeline.next_piece(&mut left).await?;
            let Some(some) = next else { return Ok(None) };
            let some = self.from.rooms.events(&some).await?.into_iter();
            let some = some.filter(|event| filter::wants(wanted, &event.event));
            let page = some.map(Shown::from).collect();
            Ok(Some((self.rendered_state(context, room, page).await?, left)))
        })))
    }

    /// Renders state events as the client wants them.
    pub(super) async fn rendered_state(
        &self,
        context: &SyncContext,
        room: &Room,
        page: Vec<Shown>,
    ) -> Result<Vec<Box<RawValue>>> {
        let filter = &context.request.filter;
        let (timeline, viewer) = (&self.from.timeline, &context.viewer);
        let events = if filter.event_format == EventFormat::Federation {
            federation_format(&page)
        } else {
            let format = context.format();
            timeline.render(viewer, room, &page, format, Bundles::None).await?
        };
        Ok(with_fields(events, filter.event_fields.as_deref()))
    }

    /// Returns the entries of `target` that are not in `known`.
    async fn moved(
        &self,
        known: Option<StateNid>,
        target: Option<StateNid>,
        part: Part,
    ) -> Result<Vec<EventNid>> {
        let states = self.from.rooms.states();
        let Some(target) = target else { return Ok(Vec::new()) };
        let Some(known) = known else {
            let entries = states.list(target, part).await?;
            return Ok(entries.iter().map(|entry| entry.event).collect());
        };
        if known == target {
            return Ok(Vec::new());
        }
        let deltas = states.diff(known, target, part).await?;
        Ok(deltas.iter().filter_map(|delta| delta.after).collect())
    }

    /// Chooses the member events the client needs: all that changed in the gap, and those of the
    /// chunk's senders and the heroes it was not sent. With the whole state also its own.
    ///
    /// Source: Matrix v1.19, client-server, "Lazy-loading room members" and "GET /sync".
    async fn lazily(
        &self,
        context: &SyncContext,
        room: &Room,
        chunk: &TimelineChunk,
        missing: &MissingState,
        heroes: &[OwnedUserId],
    ) -> Result<Vec<EventNid>> {
        let Some(target) = missing.target else { return Ok(Vec::new()) };
        let whole = missing.whole;
        let mut keep = if whole { Vec::new() } else { missing.members.clone() };
        let mut users: Vec<UserNid> = chunk.events.iter().map(|shown| shown.row.sender).collect();
        if whole {
            users.push(context.viewer.user);
        }
        for hero in heroes {
            users.extend(self.context.interned.find_user(hero).await?);
        }
        users.sort_unstable();
        users.dedup();
        let wanted = &context.request.filter.room;
        let repeat = whole
            || filter::repeats_members(&wanted.state)
            || filter::repeats_members(&wanted.timeline);
        let due = self.not_yet_sent(context, room, users, (whole, repeat));
        for user_id in self.context.interned.user_ids(&due).await? {
            let key =
                self.context.interned.find_state_key_nid("m.room.member", user_id.as_str()).await?;
            let Some(key) = key else { continue };
            let found = self.from.rooms.states().lookup(target, Part::Member, key).await?;
            keep.extend(found.filter(|nid| !keep.contains(nid)));
        }
        Ok(keep)
    }

    /// Returns those of the users whose member events the device was not sent, and notes that it
    /// is now. With `repeat` all of them; with `afresh` the device remembers nothing.
    fn not_yet_sent(
        &self,
        context: &SyncContext,
        room: &Room,
        users: Vec<UserNid>,
        (afresh, repeat): (bool, bool),
    ) -> Vec<UserNid> {
        let lazy_loaded =
            self.lazy_loaded.get_or_insert_with(&(context.viewer.device, room.nid), || {
                Ok::<_, std::convert::Infallible>(std::sync::Arc::default())
            });
        let Ok(lazy_loaded) = lazy_loaded;
        let mut lazy_loaded = lazy_loaded.lock();
        // Past the bound, the device is sent some again.
        if afresh || lazy_loaded.len() > LAZY_LOADED_USERS_MAX {
            lazy_loaded.clear();
        }
        let since = context.since(Stream::Events);
        let has = |user: &UserNid| lazy_loaded.get(user).is_some_and(|at| *at <= since);
        let due: Vec<UserNid> = users.into_iter().filter(|user| repeat || !has(user)).collect();
        let now = context.now(Stream::Events);
        lazy_loaded.extend(due.iter().map(|user| (*user, now)));
        due
    }
}
