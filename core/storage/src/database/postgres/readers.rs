//! Connections for reads: a bounded number, lent in the order in which they were asked for. Whoever asks waits
//! for whichever is there first, one that was given back or a new one; opening is a task of its own, and goes on
//! only as long as somebody waits ([decision 32](../../../../../docs/decisions/0032-connections-for-reads.md)).
//!
//! A server may have fewer connections than all processes want. Then each keeps [`KEPT`] for itself, and what it
//! has beyond that it gives back after a turn, so that nobody reads for long while others cannot at all.
//!
//! Invariants, all under the lock of `state`:
//! 1. `free` has a permit for each idle connection; whoever took a permit removes one.
//! 2. `open` counts the connections that are idle, lent, being opened or being closed.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::connect::{connect, is_crowded, refused, try_connect};
use crate::error::{Result, StorageError};

/// Connections that are there from the start on, and stay.
const KEPT: usize = 1;
/// A connection that idled for longer is asked whether it still lives before it is used.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// How long that question, and closing, may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// Pause between attempts to open one, for each that is open already: who has none comes first.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long after it refused one the server counts as having none to spare.
const CROWDED: Duration = Duration::from_secs(5);

/// How many, and how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at most.
    pub(super) max: usize,
    /// How long a read waits for one.
    pub(super) patience: Duration,
    /// How long one idles before it is closed: other processes may need it.
    pub(super) idle: Duration,
    /// How long one is kept while the server has none to spare.
    pub(super) turn: Duration,
}

/// The connections of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Shared>);

struct Shared {
    options: PgConnectOptions,
    limits: Limits,
    free: Semaphore,
    state: Mutex<State>,
    /// Told when `open` has become less.
    gone: Notify,
}

#[derive(Default)]
struct State {
    /// Used last, last.
    idle: Vec<Idle>,
    /// Who takes one away for good; they come before reads.
    takers: VecDeque<oneshot::Sender<PgConnection>>,
    open: usize,
    opening: usize,
    closing: usize,
    waiting: usize,
    /// Why the last attempt to open one failed.
    refused: Option<String>,
    crowded_at: Option<Instant>,
    is_closed: bool,
}

impl State {
    /// Tells whether there would be fewer than are kept if one more were closed.
    fn is_least(&self) -> bool {
        self.open - self.opening - self.closing <= KEPT
    }
}

struct Idle {
    connection: PgConnection,
    opened_at: Instant,
    since: Instant,
    /// It answered when it was used last, and nothing speaks against it since.
    is_trusted: bool,
}

/// Counts somebody who waits.
struct Waiting<'a>(&'a Shared);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state.lock().waiting -= 1;
    }
}

impl Readers {
    /// Opens the connections that are kept.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] with the mend when the server has none for us.
    pub(super) async fn open(options: &PgConnectOptions, limits: Limits) -> Result<Self> {
        let readers = Self::empty(options, limits);
        for _ in 0..KEPT {
            let connection = connect(options).await?;
            readers.0.state.lock().open += 1;
            readers.give_back(connection, Instant::now());
        }
        Ok(readers)
    }

    /// Those of a process that has none yet.
    fn empty(options: &PgConnectOptions, limits: Limits) -> Self {
        let readers = Self(Arc::new(Shared {
            options: options.clone(),
            limits,
            free: Semaphore::new(0),
            state: Mutex::default(),
            gone: Notify::new(),
        }));
        tokio::spawn(close_idle(Arc::downgrade(&readers.0), limits.idle));
        readers
    }

    /// Lends one, waiting for it in turn.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when there was none in time.
    pub(crate) async fn lend(&self) -> Result<Reader> {
        let deadline = Instant::now() + self.0.limits.patience;
        loop {
            let idle = self.next(deadline).await?;
            let trusted = idle.is_trusted && idle.since.elapsed() < IDLE_TRUSTED;
            let mut reader = Reader::new(self.clone(), idle.connection, idle.opened_at);
            if trusted || reader.answers().await {
                return Ok(reader);
            }
            reader.discard();
            // Broken like this one, most likely: the server was restarted.
            self.0.state.lock().idle.iter_mut().for_each(|idle| idle.is_trusted = false);
        }
    }

    /// Waits for an idle one and takes it out.
    async fn next(&self, deadline: Instant) -> Result<Idle> {
        let shared = &*self.0;
        if let Ok(permit) = shared.free.try_acquire() {
            permit.forget();
        } else {
            shared.state.lock().waiting += 1;
            let _counted = Waiting(shared);
            self.open_more();
            match timeout_at(deadline, shared.free.acquire()).await {
                Ok(permit) => permit.map_err(|_| closed())?.forget(),
                Err(_) => return Err(self.too_late()),
            }
        }
        shared.state.lock().idle.pop().ok_or_else(closed)
    }

    fn too_late(&self) -> StorageError {
        let why = self.0.state.lock().refused.clone();
        let none = "no connection became free in time";
        StorageError::Unavailable(why.map_or(none.to_owned(), |why| format!("{none}: {why}")))
    }

    /// Takes one away for good, before all who wait to read.
    ///
    /// # Errors
    /// As [`Readers::lend`].
    pub(super) async fn take(&self) -> Result<PgConnection> {
        let shared = &*self.0;
        let deadline = Instant::now() + shared.limits.patience;
        shared.state.lock().waiting += 1;
        let _counted = Waiting(shared);
        loop {
            let handed = {
                let mut state = shared.state.lock();
                if state.is_closed {
                    return Err(closed());
                }
                let (tell, handed) = oneshot::channel();
                let permit = shared.free.try_acquire();
                match permit.ok().and_then(|permit| {
                    permit.forget();
                    state.idle.pop()
                }) {
                    Some(idle) => {
                        state.open -= 1;
                        let _received_below = tell.send(idle.connection);
                    }
                    None => state.takers.push_back(tell),
                }
                handed
            };
            self.open_more();
            let taken = timeout_at(deadline, handed).await.map_err(|_| self.too_late())?;
            let mut connection = taken.map_err(|_| closed())?;
            if matches!(timeout(ANSWER_PATIENCE, connection.ping()).await, Ok(Ok(()))) {
                return Ok(connection);
            }
        }
    }

    /// Takes a connection back: it is a taker's, or whoever's turn it is to read.
    fn give_back(&self, mut connection: PgConnection, opened_at: Instant) {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        if state.is_closed {
            drop(state);
            return self.end(connection);
        }
        while let Some(taker) = state.takers.pop_front() {
            match taker.send(connection) {
                Ok(()) => {
                    drop(state);
                    return self.is_gone();
                }
                Err(back) => connection = back,
            }
        }
        let crowded = state.crowded_at.is_some_and(|at| at.elapsed() < CROWDED);
        if crowded && !state.is_least() && opened_at.elapsed() > shared.limits.turn {
            drop(state);
            return self.end(connection);
        }
        state.idle.push(Idle { connection, opened_at, since: Instant::now(), is_trusted: true });
        shared.free.add_permits(1);
    }

    /// Closes a connection; its place is free once the server knows.
    fn end(&self, connection: PgConnection) {
        self.0.state.lock().closing += 1;
        let readers = self.clone();
        tokio::spawn(async move {
            let _unless_it_is_gone = timeout(ANSWER_PATIENCE, connection.close()).await;
            readers.0.state.lock().closing -= 1;
            readers.is_gone();
        });
    }

    /// Notes that a connection is not ours any more.
    fn is_gone(&self) {
        self.0.state.lock().open -= 1;
        self.0.gone.notify_waiters();
        self.open_more();
    }

    /// Opens one more if somebody waits for it and there may be one more; beside others only while
    /// the server refuses none.
    fn open_more(&self) {
        let mut state = self.0.state.lock();
        let may = !state.is_closed && state.open < self.0.limits.max;
        let helps =
            state.opening < state.waiting && (state.refused.is_none() || state.opening == 0);
        if may && helps {
            state.open += 1;
            state.opening += 1;
            tokio::spawn(self.clone().open_one());
        }
    }

    /// Opens one; when the server refuses, again and again as long as somebody waits.
    async fn open_one(self) {
        loop {
            let opened = try_connect(&self.0.options).await;
            let pause = {
                let mut state = self.0.state.lock();
                match opened {
                    Ok(connection) => {
                        state.opening -= 1;
                        state.refused = None;
                        drop(state);
                        self.give_back(connection, Instant::now());
                        return self.open_more();
                    }
                    Err(error) => {
                        if is_crowded(&error) {
                            state.crowded_at = Some(Instant::now());
                        }
                        state.refused = Some(why(error));
                    }
                }
                if state.opening > 1 || state.waiting == 0 || state.is_closed {
                    state.opening -= 1;
                    state.open -= 1;
                    self.0.gone.notify_waiters();
                    return;
                }
                PAUSE * u32::try_from(state.open).unwrap_or(u32::MAX).max(1)
            };
            sleep(pause.min(PAUSE_MAX)).await;
        }
    }

    /// Takes out the one that idled longest, if that is too long.
    fn too_idle(&self) -> Option<Idle> {
        let mut state = self.0.state.lock();
        let longest = state.idle.first()?;
        if state.is_least() || longest.since.elapsed() < self.0.limits.idle {
            return None;
        }
        self.0.free.try_acquire().ok()?.forget();
        Some(state.idle.remove(0))
    }

    /// Closes all that are idle, waits for those that are lent, but not for long, and lends none any more.
    pub(super) async fn close(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let idle = {
            let mut state = self.0.state.lock();
            state.is_closed = true;
            state.takers.clear();
            self.0.free.close();
            std::mem::take(&mut state.idle)
        };
        for idle in idle {
            self.end(idle.connection);
        }
        loop {
            let gone = self.0.gone.notified();
            if self.0.state.lock().open == 0 || timeout_at(deadline, gone).await.is_err() {
                return;
            }
        }
    }
}

/// Closes what idled for too long, as long as there are readers.
async fn close_idle(readers: Weak<Shared>, kept: Duration) {
    loop {
        sleep(kept / 2).await;
        let Some(shared) = readers.upgrade() else { return };
        let readers = Readers(shared);
        while let Some(idle) = readers.too_idle() {
            readers.end(idle.connection);
        }
    }
}

/// Says why none could be opened, with the mend if it is known.
fn why(error: sqlx::Error) -> String {
    match StorageError::from(error) {
        StorageError::Unavailable(why) | StorageError::Failed(why) => why,
        other => other.to_string(),
    }
}

fn closed() -> StorageError {
    StorageError::Unavailable("the database is being closed".to_owned())
}

/// What becomes of a connection that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    /// It is as it was.
    Keep,
    /// Somebody has to see whether it answers.
    Ask,
    /// It is in the middle of a transaction, which ends with it.
    End,
}

/// A connection that is lent.
pub(crate) struct Reader {
    readers: Readers,
    /// `None` once it is given back.
    connection: Option<PgConnection>,
    opened_at: Instant,
    afterwards: Afterwards,
}

impl Reader {
    fn new(readers: Readers, connection: PgConnection, opened_at: Instant) -> Self {
        let connection = Some(connection);
        Self { readers, connection, opened_at, afterwards: Afterwards::Ask }
    }

    /// Says how a statement went, and gives the connection back.
    ///
    /// # Errors
    /// Those of the statement.
    pub(crate) fn done<T>(mut self, answer: sqlx::Result<T>) -> Result<T> {
        if matches!(answer, Ok(_) | Err(sqlx::Error::RowNotFound)) {
            self.afterwards = Afterwards::Keep;
        }
        Ok(answer?)
    }

    /// A transaction begins.
    pub(crate) fn begins(&mut self) {
        self.afterwards = Afterwards::End;
    }

    /// Whatever was going on is over, and was answered to its end.
    pub(crate) fn ended(&mut self) {
        self.afterwards = Afterwards::Keep;
    }

    /// Tells whether the server answers, once whatever it was saying is read.
    pub(super) async fn answers(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        matches!(timeout(ANSWER_PATIENCE, connection.ping()).await, Ok(Ok(())))
    }

    /// Gives up a connection that is broken.
    pub(super) fn discard(mut self) {
        self.afterwards = Afterwards::End;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let readers = self.readers.clone();
        // None when the process is ending.
        let Ok(runtime) = Handle::try_current() else { return };
        match self.afterwards {
            Afterwards::Keep => readers.give_back(connection, self.opened_at),
            Afterwards::End => readers.end(connection),
            Afterwards::Ask => {
                let mut reader = Self::new(readers, connection, self.opened_at);
                // Also when the task itself is dropped.
                reader.afterwards = Afterwards::End;
                runtime.spawn(async move {
                    if reader.answers().await {
                        reader.ended();
                    }
                });
            }
        }
    }
}

impl std::ops::Deref for Reader {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is taken out in drop alone")
    }
}

impl std::ops::DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is taken out in drop alone")
    }
}

/// Connects; when the server has no more connections, one of those for reads is taken.
pub(super) async fn connect_or_take(
    options: &PgConnectOptions,
    readers: &Readers,
) -> Result<PgConnection> {
    match try_connect(options).await {
        Err(error) if is_crowded(&error) => readers.take().await,
        connected => connected.map_err(|error| refused(options, &error)),
    }
}

#[cfg(test)]
mod tests;
