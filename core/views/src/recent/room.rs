//! What was said last in a room: its newest events, the states that were current with them, to whom they mean
//! something of their own, and which of them others refer to.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::{DeviceNid, EventNid, RoomNid, StateNid, UserNid},
    stream::Position,
};
use colonnade_rooms::{Context, Result, RoomEvent, Rooms};
use colonnade_rules::push::PushOutcome;
use colonnade_storage::rooms::{
    aggregations, client_txns,
    events::{self, Piece, Range},
    unread,
};
use futures_util::try_join;

/// Events kept of a room at most.
const EVENTS_MAX: usize = 64;
/// Bytes of their JSON, but for the newest of them.
const BYTES_MAX: usize = 64 * 1024;
/// Users of whom is known that some new events mean something of their own to them. If there are more, each
/// client asks for himself.
const OWN_OUTCOMES_MAX: usize = 1_000;

/// An event of a room.
#[derive(Clone)]
pub(crate) struct RecentEvent {
    /// Its position.
    pub(crate) pos: Position,
    /// What is known of it.
    pub(crate) row: Arc<RoomEvent>,
    /// What it means to users to whom it means something else than by the default rules; `None` if there are too
    /// many of them to know.
    own: Option<Arc<HashMap<UserNid, PushOutcome>>>,
}

impl RecentEvent {
    /// Returns what it means to a user who did not send it; `None` if that is not known here.
    pub(crate) fn outcome(&self, user: UserNid) -> Option<PushOutcome> {
        let own = self.own.as_ref()?;
        Some(own.get(&user).copied().unwrap_or(self.row.outcome))
    }
}

/// The end of a room's stream.
pub(crate) struct RecentRoom {
    /// Every live event above this, and up to `upto`, is here.
    after: Position,
    upto: Position,
    /// By position.
    events: Vec<RecentEvent>,
    /// From which position on which state was current; the first is that at `after`.
    states: Vec<(Position, Option<StateNid>)>,
    /// Those to which others are edits, references or answers in a thread.
    parents: HashSet<EventNid>,
    /// By what transaction ids devices here sent them.
    sent: HashMap<(EventNid, DeviceNid), String>,
}

impl RecentRoom {
    /// Reads a room up to a position, from where it stands in memory if that is near.
    pub(super) async fn read(
        context: &Context,
        rooms: &Rooms,
        room: RoomNid,
        (stands, upto): (Option<Arc<Self>>, Position),
    ) -> Result<Self> {
        let db = &context.db;
        let from = stands.as_ref().map_or(0, |stands| stands.upto);
        let range = Range { after: from, upto, newest_first: true, limit: EVENTS_MAX as i64 };
        let Piece { events: rows, is_last } = events::live(db, room, range).await?;
        let mut rows = rooms.parsed(rows).await?;
        rows.reverse();
        let oldest = rows.first().and_then(|row| row.pos);
        // More was said than is kept: what was here before has nothing to do with it any more.
        let stands = stands.filter(|_| is_last);
        let after = match (&stands, is_last, oldest) {
            (Some(stands), ..) => stands.after,
            (None, false, Some(oldest)) => oldest - 1,
            (None, ..) => 0,
        };
        let mut events: Vec<RecentEvent> =
            stands.as_ref().map(|stands| stands.events.clone()).unwrap_or_default();
        events.extend(with_outcomes(context, rows).await?);
        let (states, sent, parents) = try_join!(
            states(rooms, room, stands.as_deref(), (after, upto)),
            sent(context, rooms, stands.as_deref(), &events),
            parents(context, &events),
        )?;
        let mut read = Self { after, upto, events, states, parents, sent };
        read.trim();
        Ok(read)
    }

    /// Returns up to where everything is here.
    pub(crate) fn upto(&self) -> Position {
        self.upto
    }

    /// Tells whether an event is here.
    pub(super) fn has(&self, event: EventNid) -> bool {
        self.events.iter().any(|one| one.row.nid == event)
    }

    /// Returns the events above a position and up to another, oldest first; `None` if not all of them are
    /// here.
    pub(crate) fn between(&self, after: Position, upto: Position) -> Option<&[RecentEvent]> {
        if after < self.after || upto > self.upto {
            return None;
        }
        let place = |position| self.events.partition_point(|event| event.pos <= position);
        Some(&self.events[place(after)..place(upto).max(place(after))])
    }

    /// Returns the newest events of a range, newest first, and whether there are no more of them; `None` if they
    /// are not all here.
    pub(crate) fn newest(&self, range: Range) -> Option<(Vec<Arc<RoomEvent>>, bool)> {
        let limit = usize::try_from(range.limit).unwrap_or(0);
        let known = self.between(range.after.max(self.after), range.upto)?;
        let found: Vec<_> =
            known.iter().rev().take(limit).map(|event| Arc::clone(&event.row)).collect();
        let is_last = found.len() < limit;
        (!is_last || range.after >= self.after).then_some((found, is_last))
    }

    /// Returns the position of the newest event that is one of these types, or that of the oldest here if none
    /// is.
    pub(crate) fn newest_of(&self, types: &[&str]) -> Position {
        let is_one = |event: &&RecentEvent| {
            let event_type = event.row.event.event_type().to_string();
            types.contains(&event_type.as_str())
        };
        let newest = self.events.iter().rev().find(is_one);
        newest.or(self.events.first()).map_or(self.upto, |event| event.pos)
    }

    /// Returns the state that was current at a position, `None` inside before the first event; `None` if that is
    /// not known here.
    pub(crate) fn state_at(&self, position: Position) -> Option<Option<StateNid>> {
        if position > self.upto {
            return None;
        }
        self.states.iter().rev().find(|(since, _)| *since <= position).map(|(_, state)| *state)
    }

    /// Returns those of some events that others refer to; `None` if not all of them are here.
    pub(crate) fn parents_among(&self, events: &[EventNid]) -> Option<Vec<EventNid>> {
        let is_here = events.iter().all(|event| self.has(*event));
        is_here.then(|| events.iter().copied().filter(|nid| self.parents.contains(nid)).collect())
    }

    /// Returns by what transaction ids a device sent some events; `None` if not all of them are here.
    pub(crate) fn sent_by(
        &self,
        device: DeviceNid,
        events: &[EventNid],
    ) -> Option<Vec<(EventNid, String)>> {
        let sent = |event: &EventNid| Some((*event, self.sent.get(&(*event, device))?.clone()));
        let is_here = events.iter().all(|event| self.has(*event));
        is_here.then(|| events.iter().filter_map(sent).collect())
    }

    /// Forgets the oldest events beyond what is kept.
    fn trim(&mut self) {
        let (mut bytes, mut keep) = (0, 0);
        for event in self.events.iter().rev() {
            bytes += event.row.event.json().len();
            if keep == EVENTS_MAX || keep > 0 && bytes > BYTES_MAX {
                break;
            }
            keep += 1;
        }
        let gone: HashSet<EventNid> = {
            let gone = self.events.drain(..self.events.len() - keep);
            gone.map(|event| {
                self.after = self.after.max(event.pos);
                event.row.nid
            })
            .collect()
        };
        if gone.is_empty() {
            return;
        }
        self.parents.retain(|event| !gone.contains(event));
        self.sent.retain(|(event, _), _| !gone.contains(event));
        // The one that was current at `after` stays.
        let first = self.states.partition_point(|(since, _)| *since <= self.after).max(1) - 1;
        self.states.drain(..first);
    }
}

/// Finds out what events mean to those to whom they mean something of their own.
async fn with_outcomes(context: &Context, rows: Vec<Arc<RoomEvent>>) -> Result<Vec<RecentEvent>> {
    let positions: Vec<Position> = rows.iter().filter_map(|row| row.pos).collect();
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let own = unread::own_outcomes(&context.db, &positions, OWN_OUTCOMES_MAX as i64).await?;
    let is_known = own.len() < OWN_OUTCOMES_MAX;
    let mut by_position: HashMap<Position, HashMap<UserNid, PushOutcome>> = HashMap::new();
    for one in own {
        by_position.entry(one.pos).or_default().insert(one.user, one.outcome);
    }
    let nobody = Arc::<HashMap<UserNid, PushOutcome>>::default();
    let events = rows.into_iter().filter_map(|row| {
        let pos = row.pos?;
        let own = by_position.remove(&pos).map_or_else(|| Arc::clone(&nobody), Arc::new);
        Some(RecentEvent { pos, row, own: is_known.then_some(own) })
    });
    Ok(events.collect())
}

/// Returns which states were current from where on.
async fn states(
    rooms: &Rooms,
    room: RoomNid,
    stands: Option<&RecentRoom>,
    (after, upto): (Position, Position),
) -> Result<Vec<(Position, Option<StateNid>)>> {
    let (mut states, from) = match stands {
        Some(stands) => (stands.states.clone(), stands.upto),
        None => (vec![(after, rooms.states().at(room, after).await?)], after),
    };
    // Each came with an event, and those that are not kept are above `from` neither.
    let log = rooms.states().log(room, (from, upto), EVENTS_MAX as i64 + 1).await?;
    states.extend(log.into_iter().map(|(since, state)| (since, Some(state))));
    Ok(states)
}

/// Returns by what transaction ids devices sent the events that are new, and those that are not.
async fn sent(
    context: &Context,
    rooms: &Rooms,
    stands: Option<&RecentRoom>,
    events: &[RecentEvent],
) -> Result<HashMap<(EventNid, DeviceNid), String>> {
    let mut sent = stands.map(|stands| stands.sent.clone()).unwrap_or_default();
    let upto = stands.map_or(0, |stands| stands.upto);
    let ours = events.iter().filter(|event| event.pos > upto);
    let ours = ours.filter(|event| rooms.is_local(event.row.event.sender()));
    let ours: Vec<EventNid> = ours.map(|event| event.row.nid).collect();
    if !ours.is_empty() {
        let found = client_txns::of_all(&context.db, &ours).await?;
        sent.extend(found.into_iter().map(|(event, device, id)| ((event, device), id)));
    }
    Ok(sent)
}

/// Returns which events others refer to: what is new may refer to what is not.
async fn parents(context: &Context, events: &[RecentEvent]) -> Result<HashSet<EventNid>> {
    let nids: Vec<EventNid> = events.iter().map(|event| event.row.nid).collect();
    if nids.is_empty() {
        return Ok(HashSet::new());
    }
    Ok(aggregations::parents_among(&context.db, &nids).await?.into_iter().collect())
}
