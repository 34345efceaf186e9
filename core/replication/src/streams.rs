//! The positions this process has reached in every stream, fed by its own commits and by the bus.
//!
//! Invariants:
//! 1. A position is raised before anybody is woken for it, so whoever is woken and samples
//!    [`Streams::positions`] sees at least what woke him.
//! 2. A position is reached only when everything below it was told to those who listen. What this
//!    process or another commits above a gap waits until the gap is told: by a message that was
//!    late, or by what the database says is there.
//! 3. The bus may lose, repeat and reorder. Losing it altogether costs latency, nothing else.

mod catch_up;
mod gaps;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use colonnade_model::stream::{Position, Positions, Stream, StreamAdvance, Touch};
use colonnade_storage::{CommitListener, Database, error::Result};
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    Latest,
    bus::{BACKLOG_MAX, Bus},
};

/// Advances above a gap that are kept per stream; more are dropped, for the database has them.
const HELD_MAX: usize = 1_024;
/// How long an answer waits for what it wrote elsewhere to be noted here.
const NOTED_PATIENCE: Duration = Duration::from_secs(2);
/// The streams with rows in the database.
pub const DURABLE: [Stream; 5] =
    [Stream::Events, Stream::Receipts, Stream::AccountData, Stream::ToDevice, Stream::DeviceLists];

/// Bits of a position in memory that count; those above are of the run.
const RUN_SHIFT: u32 = 42;
/// The largest number of a run.
pub const RUN_MAX: i64 = (1 << 20) - 1;

/// The questions to the database.
#[derive(Default)]
struct Looks {
    /// How many asked so far; the number of the last.
    asked: AtomicU64,
    /// Who is answered: those with numbers up to this.
    answered: tokio::sync::Mutex<u64>,
}

/// What other processes say in passing.
pub struct EphemeralMessages {
    heard: broadcast::Receiver<Arc<[u8]>>,
    own: i64,
}

impl EphemeralMessages {
    /// Waits for the next ephemeral message of another process; `None` once the bus is gone.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.heard.recv().await {
                Ok(text) => match text.split_first_chunk() {
                    Some((from, text)) if i64::from_be_bytes(*from) != self.own => {
                        return Some(text.to_vec());
                    }
                    _ => {}
                },
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// What waits above a gap, by the position it follows.
type Held = [BTreeMap<Position, Arc<StreamAdvance>>; Stream::ALL.len()];

/// The positions of this process, and the bus they travel on.
pub struct Streams {
    reached: [AtomicI64; Stream::ALL.len()],
    /// The highest position anybody spoke of.
    known: [AtomicI64; Stream::ALL.len()],
    held: Mutex<Held>,
    /// What those who keep something in memory have taken note of.
    noted: Latest<Positions>,
    advances: broadcast::Sender<Arc<StreamAdvance>>,
    bus: OnceLock<Arc<dyn Bus>>,
    looks: Looks,
    gap: Notify,
    stopped: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            reached: Default::default(),
            known: Default::default(),
            held: Mutex::default(),
            noted: Latest::default(),
            advances: broadcast::Sender::new(BACKLOG_MAX),
            bus: OnceLock::new(),
            looks: Looks::default(),
            gap: Notify::new(),
            stopped: watch::Sender::new(false),
        }
    }
}

impl Streams {
    /// Makes the streams of a process; they stand at the beginning until [`Streams::start`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins the bus, if other processes share the database, reads where the durable streams
    /// stand, and starts to follow them. `run` is a number by chance, 1 to [`RUN_MAX`]: positions of
    /// the streams in memory begin with it, and so are told from those of other runs and processes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start(
        self: &Arc<Self>,
        db: &Database,
        bus: Option<Arc<dyn Bus>>,
        run: i64,
    ) -> Result<()> {
        // Listen first, then look: what comes in between is heard.
        let heard = bus.as_ref().map(|bus| bus.subscribe());
        let horizons = colonnade_storage::streams::horizons(db).await?;
        for stream in Stream::ALL {
            self.raise(stream, horizons.get(stream));
        }
        let begin = run.clamp(1, RUN_MAX) << RUN_SHIFT;
        self.raise(Stream::Presence, begin);
        self.raise(Stream::Typing, begin);
        if let Some(bus) = bus {
            let _only_once = self.bus.set(bus);
        }
        if let Some(heard) = heard {
            tokio::spawn(hear(Arc::downgrade(self), heard));
        }
        self.close_gaps(db);
        Ok(())
    }

    /// Tells whether a position of a stream in memory is one of this run: others say nothing here.
    pub fn is_of_this_run(&self, stream: Stream, position: Position) -> bool {
        position >> RUN_SHIFT == self.position(stream) >> RUN_SHIFT
    }

    /// Tells the other processes something that lives in memory only. It may get lost.
    pub fn send_ephemeral(&self, text: &[u8]) {
        if let Some(bus) = self.bus.get() {
            let from = self.position(Stream::Typing) >> RUN_SHIFT;
            bus.send_ephemeral([&from.to_be_bytes(), text].concat().into());
        }
    }

    /// Listens to what other processes say in passing; `None` when nobody does.
    pub fn ephemeral_messages(self: &Arc<Self>) -> Option<EphemeralMessages> {
        let heard = self.bus.get()?.ephemeral_messages()?;
        Some(EphemeralMessages { heard, own: self.position(Stream::Typing) >> RUN_SHIFT })
    }

    /// Stops to look into the database: it is about to be closed.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
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

    /// Returns the highest positions anybody spoke of, this process's own commits among them. They
    /// are reached soon: a client that shall see its own writes waits for these.
    pub fn known(&self) -> Positions {
        let mut positions = Positions::default();
        for stream in Stream::ALL {
            let known = self.known[stream.index()].load(Ordering::Acquire);
            positions.set(stream, known.max(self.position(stream)));
        }
        positions
    }

    /// Notes that a stream has come this far, as another process said in an answer.
    pub fn hear_of(&self, stream: Stream, position: Position) {
        self.learn(stream, position);
    }

    /// Says that everything up to these positions is taken note of in memory.
    pub fn note(&self, positions: Positions) {
        self.noted.set(positions);
    }

    /// Waits until a stream is taken note of up to a position, but not for long: what is late then
    /// is a hint.
    pub async fn noted(&self, stream: Stream, position: Position) {
        if self.noted.get().get(stream) >= position {
            return;
        }
        let reached = self.noted.when(|noted| noted.get(stream) >= position);
        let _in_time = tokio::time::timeout(NOTED_PATIENCE, reached).await;
    }

    /// Returns the positions up to which everything is taken note of in memory.
    pub fn noted_positions(&self) -> Positions {
        self.noted.get()
    }

    /// Listens to advances from now on, in order and without gaps. A receiver that lags must look
    /// at [`Streams::positions`] and treat everything as touched. In a server only the
    /// [`Follower`](crate::Follower) does so; what else has to hear of changes subscribes there.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.advances.subscribe()
    }

    /// Advances a stream that lives in memory by one position and returns it. Other processes do
    /// not hear of it.
    pub fn advance_in_memory(&self, stream: Stream, touched: &[Touch]) -> Position {
        debug_assert!(matches!(stream, Stream::Presence | Stream::Typing));
        let held = self.held.lock();
        let prev = self.position(stream);
        let upto = prev + 1;
        let touched = touched.iter().map(|touch| (*touch, upto)).collect();
        self.tell(Arc::new(StreamAdvance { stream, prev, upto, touched }));
        drop(held);
        upto
    }

    /// Takes an advance in: tells it, or keeps it until what is missing below it is told.
    fn take(&self, advance: Arc<StreamAdvance>) {
        let stream = advance.stream;
        let mut held = self.held.lock();
        self.known[stream.index()].fetch_max(advance.upto, Ordering::AcqRel);
        if advance.prev > self.position(stream) {
            let held = &mut held[stream.index()];
            if held.len() < HELD_MAX {
                held.insert(advance.prev, advance);
            }
            self.gap.notify_one();
            return;
        }
        self.tell(advance);
        let held = &mut held[stream.index()];
        while let Some(next) = held.first_entry() {
            if *next.key() > self.position(stream) {
                break;
            }
            self.tell(next.remove());
        }
    }

    /// Raises the position and tells those who listen. Called under the lock of what is held, so
    /// they hear of everything in order.
    fn tell(&self, advance: Arc<StreamAdvance>) {
        if advance.upto <= self.position(advance.stream) {
            return;
        }
        self.raise(advance.stream, advance.upto);
        // An error only says that nobody listens.
        let _ = self.advances.send(advance);
    }

    /// Notes that a stream has come this far, and looks for what is missing.
    fn learn(&self, stream: Stream, position: Position) {
        if position > self.position(stream) {
            self.known[stream.index()].fetch_max(position, Ordering::AcqRel);
            self.gap.notify_one();
        }
    }

    /// Tells whether other processes write to the database, too.
    pub fn is_shared(&self) -> bool {
        self.bus.get().is_some()
    }

    fn has_gap(&self) -> bool {
        let known = self.known();
        DURABLE.into_iter().any(|stream| known.get(stream) > self.position(stream))
    }

    fn raise(&self, stream: Stream, position: Position) {
        self.reached[stream.index()].fetch_max(position, Ordering::AcqRel);
    }
}

impl CommitListener for Streams {
    fn committed(&self, advance: StreamAdvance) {
        let advance = Arc::new(advance);
        self.take(Arc::clone(&advance));
        if let Some(bus) = self.bus.get() {
            bus.publish(advance);
        }
    }
}

/// Takes in what the bus says, until it or the streams are gone.
async fn hear(streams: Weak<Streams>, mut bus: broadcast::Receiver<Arc<StreamAdvance>>) {
    loop {
        let heard = bus.recv().await;
        let Some(streams) = streams.upgrade() else { return };
        match heard {
            Ok(advance) if DURABLE.contains(&advance.stream) => streams.take(advance),
            Ok(_) => {}
            // Whatever was missed is missed as if it had been lost on the way.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "fell behind the bus");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests;
