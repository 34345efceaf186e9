//! The newest of what was said and read in the rooms where something happens, in memory, for all their
//! members: a word in a room is read from the database once by a process, and not once by each client that
//! hears it.
//!
//! What is here of a room is all there is between two positions. Whoever wants more than that, from further
//! back, reads the database. An entry is made when somebody wants it, and taken on to the present by the first
//! who wants that; the others wait for him.
//!
//! Invariant: no entry holds an event as it was before a redaction that a client may have been told of. The
//! follower tells of redactions before it tells the notifier how far clients may look.

mod receipts;
mod room;

use std::{hash::BuildHasher as _, sync::Arc};

use colonnade_model::{
    nid::RoomNid,
    stream::{Position, Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use colonnade_rooms::{Context, Result, Rooms, generation_cache::GenerationCache};
use colonnade_storage::database::metrics::CacheFigures;
use tokio::sync::Mutex;

pub(crate) use receipts::RecentReceipts;
pub(crate) use room::{RecentEvent, RecentRoom};

/// Rooms whose newest events are kept: at 64 kB each at most, 128 MB of JSON, most of which the cache of events
/// holds, too.
const ROOMS_MAX: usize = 2_000;
/// Rooms whose newest receipts are kept, 40 kB each at most.
const RECEIPTS_OF_MAX: usize = 2_000;
/// Turns at reading, of which a room has one: two rooms seldom share one.
const TURNS: usize = 256;

/// What is newest in rooms.
pub struct Recent {
    context: Arc<Context>,
    rooms: Rooms,
    said: GenerationCache<RoomNid, Arc<RecentRoom>>,
    read: GenerationCache<RoomNid, Arc<RecentReceipts>>,
    turns: Vec<Mutex<()>>,
    turn_of: std::hash::RandomState,
}

impl Recent {
    /// Reads from `rooms`. Subscribe it to what changes before whoever wakes clients.
    pub fn new(context: Arc<Context>, rooms: Rooms) -> Self {
        Self {
            context,
            rooms,
            said: GenerationCache::new(ROOMS_MAX),
            read: GenerationCache::new(RECEIPTS_OF_MAX),
            turns: (0..TURNS).map(|_| Mutex::default()).collect(),
            turn_of: std::hash::RandomState::new(),
        }
    }

    /// Returns how well they do.
    pub fn figures(&self) -> [CacheFigures; 2] {
        [self.said.figures("recent_events"), self.read.figures("recent_receipts")]
    }

    /// Returns what was said last in a room, up to `upto` at least.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn said(&self, room: RoomNid, upto: Position) -> Result<Arc<RecentRoom>> {
        let known = |known: &Arc<RecentRoom>| known.upto() >= upto;
        if let Some(found) = self.said.get(&room).filter(known) {
            return Ok(found);
        }
        let _turn = self.turn(room).lock().await;
        let generation = self.said.generation();
        let stands = self.said.get(&room);
        if let Some(found) = stands.clone().filter(known) {
            return Ok(found);
        }
        let newer = RecentRoom::read(&self.context, &self.rooms, room, (stands, upto)).await?;
        let newer = Arc::new(newer);
        self.said.insert(generation, room, Arc::clone(&newer));
        Ok(newer)
    }

    /// Returns what was read last in a room, up to `upto` at least.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn read(&self, room: RoomNid, upto: Position) -> Result<Arc<RecentReceipts>> {
        let known = |known: &Arc<RecentReceipts>| known.upto() >= upto;
        if let Some(found) = self.read.get(&room).filter(known) {
            return Ok(found);
        }
        let _turn = self.turn(room).lock().await;
        let generation = self.read.generation();
        let stands = self.read.get(&room);
        if let Some(found) = stands.clone().filter(known) {
            return Ok(found);
        }
        let newer = RecentReceipts::read(&self.context.db, room, (stands, upto)).await?;
        let newer = Arc::new(newer);
        self.read.insert(generation, room, Arc::clone(&newer));
        Ok(newer)
    }

    fn turn(&self, room: RoomNid) -> &Mutex<()> {
        let place = self.turn_of.hash_one(room) % TURNS as u64;
        &self.turns[usize::try_from(place).unwrap_or(0)]
    }
}

impl Subscriber for Recent {
    fn advanced(&self, advance: &StreamAdvance) {
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::Redacted(event), _) => self.said.remove_where(|room| room.has(*event)),
                (Touch::Anybody, Stream::Events) => self.said.clear(),
                _ => {}
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.said.clear();
    }
}
