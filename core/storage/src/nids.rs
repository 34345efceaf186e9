//! Hands out local ids from blocks, so that an id costs no round trip. Ids of one process grow; the
//! rest of a block is forgotten at a restart.

use colonnade_model::nid::{DeviceNid, EventNid, RoomNid, StateNid};

use crate::{Database, error::Result};

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

    /// Returns the first of `count` consecutive new ids.
    async fn take(&self, db: &Database, count: i64) -> Result<i64> {
        let mut block = self.block.lock().await;
        if block.end - block.start < count {
            let size = count.max(BLOCK);
            let name = self.name;
            let end = db
                .write_twice(move |tx| {
                    Box::pin(async move {
                        const TAKE: &str = "INSERT INTO nid_blocks (name, next) VALUES ($1, $2 + 1) \
                             ON CONFLICT (name) DO UPDATE SET next = nid_blocks.next + $2 \
                             RETURNING next";
                        let end: i64 = run!(tx, |c| sqlx::query_scalar(TAKE)
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
    /// Forgets the blocks at hand. Called whenever this process becomes the owner of rooms: ids of a
    /// room then go on growing, for a new block is above all that earlier owners took.
    pub async fn forget(&self) {
        for nids in [&self.events, &self.states] {
            *nids.block.lock().await = 0..0;
        }
    }

    /// Returns the first of `count` consecutive event ids.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, db: &Database, count: usize) -> Result<EventNid> {
        self.events.take(db, as_i64(count)).await.map(EventNid)
    }

    /// Returns the first of `count` consecutive state ids.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn states(&self, db: &Database, count: usize) -> Result<StateNid> {
        self.states.take(db, as_i64(count)).await.map(StateNid)
    }

    /// Returns a new room id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn room(&self, db: &Database) -> Result<RoomNid> {
        self.rooms.take(db, 1).await.map(RoomNid)
    }

    /// Returns a new device id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device(&self, db: &Database) -> Result<DeviceNid> {
        self.devices.take(db, 1).await.map(DeviceNid)
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
