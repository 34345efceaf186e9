//! Hands out local ids from blocks, so that an id costs no round trip. Ids of one process grow; the
//! rest of a block is forgotten at a restart.

use colonnade_model::nid::{DeviceNid, EventNid, RoomNid, StateNid};

use crate::{Database, database::sql, error::Result};

/// Ids taken from the database at a time: one write per thousand rows.
const BLOCK: i64 = 1_000;

/// Hands out ids of one kind.
pub struct Nids {
    name: &'static str,
    block: tokio::sync::Mutex<std::ops::Range<i64>>,
}

impl Nids {
    fn new(name: &'static str) -> Self {
        Self { name, block: tokio::sync::Mutex::new(0..0) }
    }

    /// Returns the first of `count` consecutive new ids, all above `floor`, an id that was given out
    /// before. A block at hand may be older than that: another process took a later one. Whatever is
    /// taken from the database now is above every id given out so far.
    async fn take(&self, db: &Database, count: i64, floor: i64) -> Result<i64> {
        let mut block = self.block.lock().await;
        if block.end - block.start < count || block.start <= floor {
            let size = count.max(BLOCK);
            let name = self.name;
            let end = db
                .write_twice(move |tx| {
                    Box::pin(async move {
                        const TAKE: &str = "INSERT INTO nid_blocks (name, next) VALUES ($1, $2 + 1) \
                             ON CONFLICT (name) DO UPDATE SET next = nid_blocks.next + $2 \
                             RETURNING next";
                        let end: i64 = run!(tx, |c| sql::query_scalar(TAKE)
                            .bind(name)
                            .bind(size)
                            .fetch_one(c))?;
                        Ok(end)
                    })
                })
                .await?;
            *block = end - size..end;
        }
        let first = block.start;
        block.start += count;
        Ok(first)
    }
}

/// The allocators of every kind of id that is not interned.
pub struct AllNids {
    events: Nids,
    states: Nids,
    rooms: Nids,
    devices: Nids,
}

impl Default for AllNids {
    fn default() -> Self {
        Self {
            events: Nids::new("event"),
            states: Nids::new("state"),
            rooms: Nids::new("room"),
            devices: Nids::new("device"),
        }
    }
}

impl AllNids {
    /// Returns the first of `count` consecutive event ids above `after`, whoever gave that one out:
    /// ids grow along the graph of a room, whichever processes it passes through.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, db: &Database, count: usize, after: EventNid) -> Result<EventNid> {
        self.events.take(db, as_i64(count), after.0).await.map(EventNid)
    }

    /// Returns the first of `count` consecutive state ids above `after`, whoever gave that one out: a
    /// state refers to what is older only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn states(&self, db: &Database, count: usize, after: StateNid) -> Result<StateNid> {
        self.states.take(db, as_i64(count), after.0).await.map(StateNid)
    }

    /// Returns a new room id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn room(&self, db: &Database) -> Result<RoomNid> {
        self.rooms.take(db, 1, 0).await.map(RoomNid)
    }

    /// Returns a new device id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device(&self, db: &Database) -> Result<DeviceNid> {
        self.devices.take(db, 1, 0).await.map(DeviceNid)
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
