//! Who is typing where. Lives in memory: a restart forgets it, and nobody minds. Each process is told
//! by the one that heard it, and may miss some.
//!
//! Source: Matrix v1.19, client-server, "Typing notifications".

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::RoomNid,
    ruma::{OwnedUserId, RoomId, UserId},
    stream::{Position, Stream, Touch},
};
use colonnade_replication::Streams;
use parking_lot::Mutex;

use crate::{Context, Result, accounts::Session, rooms::Rooms, whispers::Whisper};

/// The longest a client may say that it types, in milliseconds; it says so again if it still does.
const TIMEOUT_MS_MAX: i64 = 120_000;
/// Users who type in one room at a time; more are not noted.
const TYPISTS_MAX: usize = 200;

/// Who is typing in a room.
#[derive(Default)]
struct Room {
    /// User → until when, in milliseconds since 1970.
    until: HashMap<OwnedUserId, i64>,
    /// The last change.
    pos: Position,
}

/// Typing notifications.
pub struct Typing {
    context: Arc<Context>,
    store: Rooms,
    rooms: Arc<Mutex<HashMap<RoomNid, Room>>>,
}

impl Typing {
    pub(crate) fn start(context: Arc<Context>, store: Rooms) -> Arc<Self> {
        Arc::new(Self { context, store, rooms: Arc::default() })
    }

    /// Takes in what another process heard: until when a user types, in milliseconds since 1970, or
    /// that the user stopped.
    pub(crate) fn heard(&self, room: RoomNid, user: OwnedUserId, until: Option<i64>) {
        match until {
            Some(until) => {
                let until = until.min(self.context.now_ms() + TIMEOUT_MS_MAX);
                self.note(room, user, until);
            }
            None => self.stop(room, &user),
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
        let room = self.store.joined_room(room_id, session.user).await?;
        let Some(timeout_ms) = timeout_ms else {
            self.stop(room.nid, &session.user_id);
            self.tell(room.nid, session, None);
            return Ok(());
        };
        if timeout_ms < 0 {
            return Err(MatrixError::invalid_param("timeout must not be negative").into());
        }
        let timeout_ms = timeout_ms.min(TIMEOUT_MS_MAX);
        let until = self.context.now_ms() + timeout_ms;
        self.note(room.nid, session.user_id.clone(), until);
        self.tell(room.nid, session, Some(until));
        Ok(())
    }

    /// Tells other processes.
    fn tell(&self, room: RoomNid, session: &Session, until: Option<i64>) {
        let user = session.user_id.clone();
        Whisper::Typing { room, user, until }.say(&self.context.streams);
    }

    fn note(&self, room: RoomNid, user: OwnedUserId, until: i64) {
        {
            let mut rooms = self.rooms.lock();
            let typing = rooms.entry(room).or_default();
            let is_new = !typing.until.contains_key(&user);
            if is_new && typing.until.len() >= TYPISTS_MAX {
                return;
            }
            typing.until.insert(user.clone(), until);
            if is_new {
                typing.pos = moved(&self.context.streams, room);
            }
        }
        self.expire_later(room, user, until);
    }

    fn stop(&self, room: RoomNid, user: &UserId) {
        let mut rooms = self.rooms.lock();
        if let Some(typing) = rooms.get_mut(&room)
            && typing.until.remove(user).is_some()
        {
            typing.pos = moved(&self.context.streams, room);
        }
    }

    /// Takes a user off the list when the time is over, unless it was extended.
    fn expire_later(&self, room: RoomNid, user: OwnedUserId, until: i64) {
        let rooms = Arc::clone(&self.rooms);
        let context = Arc::clone(&self.context);
        let timeout_ms = (until - self.context.now_ms()).clamp(0, TIMEOUT_MS_MAX);
        let wait = std::time::Duration::from_millis(timeout_ms.unsigned_abs());
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let mut rooms = rooms.lock();
            let Some(typing) = rooms.get_mut(&room) else { return };
            // Not by the clock, which may have been set meanwhile.
            if typing.until.get(&user) == Some(&until) {
                typing.until.remove(&user);
                typing.pos = moved(&context.streams, room);
            }
        });
    }

    /// Returns who types in a room, if that changed after `after`.
    pub fn changed(&self, room: RoomNid, after: Position) -> Option<Vec<OwnedUserId>> {
        let rooms = self.rooms.lock();
        let typing = rooms.get(&room).filter(|typing| typing.pos > after)?;
        let mut users: Vec<OwnedUserId> = typing.until.keys().cloned().collect();
        users.sort();
        Some(users)
    }
}

fn moved(streams: &Streams, room: RoomNid) -> Position {
    streams.advance_in_memory(Stream::Typing, &[Touch::Room(room)])
}
