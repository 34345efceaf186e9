//! The positions this process has reached in every stream, fed by its own commits and by the bus.
//!
//! Invariant: a position is raised before anybody is woken for it, so whoever is woken and samples
//! [`Streams::positions`] sees at least what woke him.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use colonnade_model::stream::{Position, Positions, Stream, StreamAdvance, Touch};
use colonnade_storage::{CommitListener, Database, error::Result};
use tokio::sync::broadcast;

use crate::bus::Bus;

/// The positions of this process, and the bus they travel on.
pub struct Streams {
    reached: [AtomicI64; Stream::ALL.len()],
    bus: Arc<dyn Bus>,
}

impl Streams {
    /// Makes streams that stand at the beginning; call [`Streams::catch_up`] before use.
    pub fn new(bus: Arc<dyn Bus>) -> Self {
        Self { reached: Default::default(), bus }
    }

    /// Reads where the durable streams stand, and starts the streams in memory at `now_ms`, so that
    /// their positions stay above those of an earlier process.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn catch_up(&self, db: &Database, now_ms: i64) -> Result<()> {
        let horizons = colonnade_storage::streams::horizons(db).await?;
        for stream in Stream::ALL {
            self.raise(stream, horizons.get(stream));
        }
        self.raise(Stream::Presence, now_ms);
        self.raise(Stream::Typing, now_ms);
        Ok(())
    }

    /// Returns the positions reached.
    pub fn positions(&self) -> Positions {
        let mut positions = Positions::default();
        for stream in Stream::ALL {
            positions.set(stream, self.position(stream));
        }
        positions
    }

    /// Returns the position reached in one stream.
    pub fn position(&self, stream: Stream) -> Position {
        self.reached[stream.index()].load(Ordering::Acquire)
    }

    /// Listens to advances from now on. A receiver that lags must look at [`Streams::positions`]
    /// and treat everything as touched.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.bus.subscribe()
    }

    /// Advances a stream that lives in memory by one position and returns it.
    pub fn advance_in_memory(&self, stream: Stream, touched: &[Touch]) -> Position {
        debug_assert!(matches!(stream, Stream::Presence | Stream::Typing));
        let prev = self.reached[stream.index()].fetch_add(1, Ordering::AcqRel);
        let upto = prev + 1;
        let touched = touched.iter().map(|touch| (*touch, upto)).collect();
        self.bus.publish(Arc::new(StreamAdvance { stream, prev, upto, touched }));
        upto
    }

    fn raise(&self, stream: Stream, position: Position) {
        self.reached[stream.index()].fetch_max(position, Ordering::AcqRel);
    }
}

impl CommitListener for Streams {
    fn committed(&self, advance: StreamAdvance) {
        self.raise(advance.stream, advance.upto);
        self.bus.publish(Arc::new(advance));
    }
}
