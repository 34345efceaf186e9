//! Who is typing where. Lives in memory: a restart forgets it, and nobody minds. Each process is told
//! by the one that heard it, and may miss some.
//!
//! Whoever leaves a room stops typing in it, in every process: each follows the events and takes off
//! whose membership changed. What a user said is worth as much as the membership it was checked by, so
//! it comes with the position of that check, and is dropped where the membership has changed since.
//!
//! Source: Matrix v1.19, client-server, "Typing notifications".

mod receive;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, RoomId},
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::{
    Streams, Subscriber,
    ephemeral::{Channel, Receivers},
};
use colonnade_rooms::{Context, Result, Rooms};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use receive::RemoteTyping;

/// Tells other processes who types.
static CHANNEL: Channel<TypingUpdate> = Channel::new("Typing");
/// The longest a client may say that it types, in milliseconds; it says so again if it still does.
const TIMEOUT_MS_MAX: i64 = 120_000;
/// Users who type in one room at a time; more are not noted.
const TYPISTS_MAX: usize = 200;

/// Changes of memberships that are remembered, 24 bytes each: what a user said is older than these only
/// where another process is that many behind.
const MOVES_MAX: usize = 4_096;

/// Who is typing in a room.
#[derive(Default)]
struct Room {
    typists: HashMap<UserNid, Typist>,
    /// The last change.
    pos: Position,
}

impl Room {
    /// Returns who types, in the order of the names.
    fn names(&self) -> Vec<OwnedUserId> {
        let mut users: Vec<OwnedUserId> =
            self.typists.values().map(|typist| typist.name.clone()).collect();
        users.sort();
        users
    }
}

struct Typist {
    name: OwnedUserId,
    /// Milliseconds since 1970.
    until: i64,
    /// The position of the events at which the user was a member.
    at: Position,
}

/// That a user types, as one process tells the others.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TypingUpdate {
    room: RoomNid,
    user: OwnedUserId,
    /// Until when, in milliseconds since 1970; `None`: the user stopped.
    until: Option<i64>,
    /// The same user. Absent from a process of an older version, which is not listened to.
    nid: Option<UserNid>,
    /// The position of the events at which the user was a member.
    #[serde(default)]
    at: Position,
}

/// Everybody who types, and who came and went of late.
#[derive(Default)]
struct State {
    rooms: HashMap<RoomNid, Room>,
    /// The rooms by their last changes.
    changes: BTreeMap<Position, RoomNid>,
    /// The latest changes of memberships, in order.
    moves: VecDeque<(Position, RoomNid, UserNid)>,
    /// Changes up to here are not remembered.
    moves_after: Position,
}

impl State {
    /// Tells whether a user's membership is still the one at a position.
    fn is_as_at(&self, at: Position, room: RoomNid, user: UserNid) -> bool {
        let mut later = self.moves.iter().rev().take_while(|(pos, ..)| *pos > at);
        at >= self.moves_after && later.all(|(_, r, u)| (*r, *u) != (room, user))
    }

    fn remember(&mut self, moved: (Position, RoomNid, UserNid)) {
        if self.moves.len() >= MOVES_MAX
            && let Some((forgotten, ..)) = self.moves.pop_front()
        {
            self.moves_after = forgotten;
        }
        self.moves.push_back(moved);
    }

    fn typist(&self, room: RoomNid, user: UserNid) -> Option<&Typist> {
        self.rooms.get(&room)?.typists.get(&user)
    }

    /// Takes a user off the list of a room.
    fn stop(&mut self, streams: &Streams, room: RoomNid, user: UserNid) {
        if let Some(typing) = self.rooms.get_mut(&room)
            && typing.typists.remove(&user).is_some()
        {
            self.changed(streams, room);
        }
    }

    /// Gives the change of a room its position.
    fn changed(&mut self, streams: &Streams, room: RoomNid) {
        let pos = streams.advance_in_memory(Stream::Typing, &[Touch::Room(room)]);
        let before = std::mem::replace(&mut self.rooms.entry(room).or_default().pos, pos);
        self.changes.remove(&before);
        self.changes.insert(pos, room);
    }
}

/// Typing notifications.
pub struct Typing {
    context: Arc<Context>,
    store: Rooms,
    state: Arc<Mutex<State>>,
}

impl Typing {
    /// Begins with nobody who types, as of the events there are now.
    pub fn start(context: Arc<Context>, store: Rooms) -> Arc<Self> {
        let moves_after = context.streams.position(Stream::Events);
        let state = State { moves_after, ..State::default() };
        Arc::new(Self { context, store, state: Arc::new(Mutex::new(state)) })
    }

    /// Takes in what other processes say of who types.
    #[must_use]
    pub fn listen(self: &Arc<Self>, receivers: Receivers) -> Receivers {
        receivers.on(&CHANNEL, self, Self::heard)
    }

    /// Takes in what another process heard.
    pub(crate) fn heard(&self, said: TypingUpdate) {
        let latest = self.context.now_ms() + TIMEOUT_MS_MAX;
        self.note(TypingUpdate { until: said.until.map(|until| until.min(latest)), ..said });
    }

    /// Takes everybody off: anybody may have left.
    fn stop_all(&self) {
        let streams = &self.context.streams;
        let mut state = self.state.lock();
        state.moves.clear();
        state.moves_after = streams.known().get(Stream::Events);
        let mut stopped = Vec::new();
        for (room, typing) in &mut state.rooms {
            if !typing.typists.is_empty() {
                typing.typists.clear();
                stopped.push(*room);
            }
        }
        for room in stopped {
            state.changed(streams, room);
        }
    }

    /// Notes that a user types for the next `timeout_ms`, or stopped (`None`).
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room.
    pub async fn set(
        &self,
        session: &Session,
        room_id: &RoomId,
        timeout_ms: Option<i64>,
    ) -> Result<()> {
        // Taken before the membership is read: what changes afterwards has a later position.
        let reached = self.context.streams.position(Stream::Events);
        let (room, member) = self.store.joined_member(room_id, session.user).await?;
        if timeout_ms.is_some_and(|timeout_ms| timeout_ms < 0) {
            return Err(MatrixError::invalid_param("timeout must not be negative").into());
        }
        let now_ms = self.context.now_ms();
        let said = TypingUpdate {
            room: room.nid,
            user: session.user_id.clone(),
            until: timeout_ms.map(|timeout_ms| now_ms + timeout_ms.min(TIMEOUT_MS_MAX)),
            nid: Some(session.user),
            // Another process may have let the user in, and this one not have heard of it.
            at: reached.max(member.pos),
        };
        self.tell(said);
        Ok(())
    }

    /// Notes what a user said, and tells the other processes.
    fn tell(&self, said: TypingUpdate) {
        self.note(said.clone());
        CHANNEL.send(&self.context.streams, &said);
    }

    fn note(&self, said: TypingUpdate) {
        let TypingUpdate { room, user: name, until, nid: Some(user), at } = said else { return };
        let streams = &self.context.streams;
        let mut state = self.state.lock();
        let Some(until) = until else { return state.stop(streams, room, user) };
        if !state.is_as_at(at, room, user) {
            return;
        }
        let typing = state.rooms.entry(room).or_default();
        let is_new = !typing.typists.contains_key(&user);
        if is_new && typing.typists.len() >= TYPISTS_MAX {
            return;
        }
        typing.typists.insert(user, Typist { name, until, at });
        if is_new {
            state.changed(streams, room);
        }
        drop(state);
        self.expire_later(room, user, until);
    }

    /// Takes a user off the list when the time is over, unless it was extended.
    fn expire_later(&self, room: RoomNid, user: UserNid, until: i64) {
        let state = Arc::clone(&self.state);
        let context = Arc::clone(&self.context);
        let timeout_ms = (until - self.context.now_ms()).clamp(0, TIMEOUT_MS_MAX);
        let wait = std::time::Duration::from_millis(timeout_ms.unsigned_abs());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut state = state.lock();
            // Not by the clock, which may have been set meanwhile.
            if state.typist(room, user).is_some_and(|typist| typist.until == until) {
                state.stop(&context.streams, room, user);
            }
        });
    }

    /// Returns who types in a room, if that changed after `after`.
    pub fn changed(&self, room: RoomNid, after: Position) -> Option<Vec<OwnedUserId>> {
        let state = self.state.lock();
        let typing = state.rooms.get(&room).filter(|typing| typing.pos > after)?;
        Some(typing.names())
    }

    /// Returns the rooms that changed after `after`, each with everybody who types in it.
    pub fn changed_rooms(&self, after: Position) -> Vec<(RoomNid, Vec<OwnedUserId>)> {
        let state = self.state.lock();
        let changed = state.changes.range(after.saturating_add(1)..).map(|(_, room)| *room);
        let names = |room| state.rooms.get(&room).map(Room::names).unwrap_or_default();
        changed.map(|room| (room, names(room))).collect()
    }
}

/// What is kept here of memberships no writer forgets.
impl Subscriber for Typing {
    /// Takes off whose memberships an advance says have changed. A new name takes off, too: who still
    /// types says so again.
    fn advanced(&self, advance: &StreamAdvance) {
        if advance.stream != Stream::Events {
            return;
        }
        let touched = &advance.touched;
        if touched.iter().any(|(touch, _)| *touch == Touch::Anybody) {
            return self.stop_all();
        }
        let mut moves: Vec<(Position, UserNid)> = Vec::new();
        for (touch, pos) in touched {
            if let Touch::User(user) = touch {
                moves.push((*pos, *user));
            }
        }
        if moves.is_empty() {
            return;
        }
        moves.sort_unstable();
        let rooms = touched.iter().filter_map(|(touch, pos)| match touch {
            Touch::Room(room) => Some((*pos, *room)),
            _ => None,
        });
        let rooms: HashMap<Position, RoomNid> = rooms.collect();
        let mut state = self.state.lock();
        for (pos, user) in moves {
            // Each event has one position, and touches its room.
            let Some(room) = rooms.get(&pos) else { continue };
            state.remember((pos, *room, user));
            if state.typist(*room, user).is_some_and(|typist| typist.at < pos) {
                state.stop(&self.context.streams, *room, user);
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.stop_all();
    }
}

#[cfg(test)]
mod tests;
