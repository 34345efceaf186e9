//! One file for several simulated processes in one thread. Nothing of it runs in a server.
//!
//! A real process waits for the thread of its connection while other tasks go on, so what happens
//! next depends on the machine. Here each statement, and each transaction from BEGIN to COMMIT, is
//! waited for on the calling thread: to the runtime it takes no time and has no other order than the
//! one the simulation chose. When it happens, and how it ends, is said by a [`Fate`].

use std::{
    future::Future,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
};

use colonnade_model::{Clock, stream::StreamAdvance};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use sqlx::{
    ConnectOptions as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::limits::{BUSY_TIMEOUT, STATEMENTS_MAX};
use crate::error::{Result, StorageError};

/// Rows that may wait for the calling thread: as many as there are, so that it waits once.
const ROWS_BUFFERED: usize = 4_096;

/// What becomes of the statements of one simulated process.
pub trait Fate: Send + Sync + 'static {
    /// Waits as long as a read is late; an error is the read's.
    fn read(&self) -> BoxFuture<'_, Result<()>>;

    /// Waits as long as a group of writes is late to begin.
    fn write(&self) -> BoxFuture<'_, ()>;

    /// Says whether a group of writes that advanced these streams is committed; else it is undone.
    fn commits(&self, sealed: &[StreamAdvance]) -> bool;

    /// Hears that the group is committed, before anybody is told, and waits as long as the answer is
    /// late. False: the answer is lost. Then writes that may happen twice are told that nobody knows,
    /// and all others that they happened, as after a look at what was committed.
    fn answers(&self) -> BoxFuture<'_, bool>;
}

/// Who decides, and what time it is.
#[derive(Clone)]
pub struct Stepwise {
    /// Decides.
    pub fate: Arc<dyn Fate>,
    /// The database's clock.
    pub clock: Arc<dyn Clock>,
}

/// The connection of a simulated process's reads.
pub(super) struct Reads {
    pub(super) connection: Mutex<SqliteConnection>,
    fate: Arc<dyn Fate>,
}

impl Reads {
    /// Waits until the read may happen.
    pub(super) async fn wait(&self) -> Result<(), sqlx::Error> {
        let refused = |error: StorageError| {
            sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, error.to_string()))
        };
        self.fate.read().await.map_err(refused)
    }
}

/// Opens connections for the writes and the reads of one simulated process. The file is up to date
/// and, unlike a server's, shared.
pub(super) async fn connect(path: &Path, steps: &Stepwise) -> Result<(SqliteConnection, Reads)> {
    // Nothing is expected to survive the machine: no waiting for the disk.
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        .row_buffer_size(ROWS_BUFFERED)
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging();
    let writer = at_once(options.connect())?;
    let connection = Mutex::new(at_once(options.connect())?);
    Ok((writer, Reads { connection, fate: Arc::clone(&steps.fate) }))
}

/// Runs a future to its end on this thread. It may wait for other threads, not for other tasks.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}
