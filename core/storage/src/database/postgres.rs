//! PostgreSQL: a few connections for reads, and for writes one writer per lane, each with a connection of its
//! own. What waits in a lane shares a commit; lanes take turns across all processes that share the
//! database, so that position order is commit order (`lane.rs`, `session.rs`).

mod connect;
mod hold;
pub(super) mod message;
mod open;
pub(super) mod readers;
mod room;
mod session;
mod writer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub use self::hold::Held;
pub(crate) use self::readers::Reader;
use self::readers::Readers;
pub(crate) use self::{
    message::message,
    open::{connect_to_copy, migrate, open, peek, pending},
};
use super::{
    CommitListener, Lane, Lock, Tx,
    job::{Runs, Work, job},
    stats::Stats,
    tx::{Connection, PgHandle},
};
use crate::error::{Result, StorageError};

/// Writes that may wait in a lane; beyond it callers wait in turn.
const WAITING_MAX: usize = 1024;
/// Attempts at a write of its own before its caller is told that the database is not available.
const ATTEMPTS_MAX: u32 = 5;
/// Pause before the second attempt.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the writes that wait may take when the database is closed. Their callers were told nothing yet,
/// and will not be told that they are stored.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);
/// How long connections that are lent may take to come back then.
const READERS_PATIENCE: Duration = Duration::from_secs(1);

/// An open PostgreSQL database.
#[derive(Clone)]
pub(crate) struct Postgres {
    readers: Readers,
    lanes: [mpsc::Sender<Work>; Lane::ALL.len()],
    stats: Arc<Stats>,
    incarnation: Arc<AtomicI64>,
    /// The way around a pooler.
    direct: Arc<PgConnectOptions>,
    /// There is no pooler.
    is_direct: bool,
}

impl Postgres {
    async fn start(
        readers: Readers,
        options: &PgConnectOptions,
        direct: Option<PgConnectOptions>,
        listener: &Arc<dyn CommitListener>,
    ) -> Result<Self> {
        let (stats, incarnation) = (Arc::new(Stats::default()), Arc::new(AtomicI64::new(0)));
        let session = |lane| {
            let incarnation = Arc::clone(&incarnation);
            session::Session::open(lane, options.clone(), readers.clone(), incarnation)
        };
        let [general, events, receipts] = Lane::ALL;
        let sessions = [session(general).await?, session(events).await?, session(receipts).await?];
        let lanes = sessions.map(|session| {
            let (sender, work) = mpsc::channel(WAITING_MAX);
            let (listener, stats) = (Arc::clone(listener), Arc::clone(&stats));
            tokio::spawn(writer::run(session, work, listener, stats));
            sender
        });
        let is_direct = direct.is_none();
        let direct = Arc::new(direct.unwrap_or_else(|| options.clone()));
        Ok(Self { readers, lanes, stats, incarnation, direct, is_direct })
    }

    /// Lends a connection for a statement outside of transactions.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when there was none in time.
    pub(crate) async fn reader(&self) -> Result<Reader> {
        self.stats.read();
        self.readers.lend().await
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| WAITING_MAX - lane.capacity()).sum()
    }

    /// Takes a session's lock on a connection of its own, if it is free.
    pub(crate) async fn hold(&self, lock: Lock, shared: bool) -> Result<Option<Held>> {
        let readers = self.is_direct.then_some(&self.readers);
        hold::hold(&self.direct, readers, lock, shared).await
    }

    /// Makes every write from now on one of this incarnation.
    pub(crate) fn set_incarnation(&self, incarnation: i64) {
        self.incarnation.store(incarnation, Ordering::Release);
    }

    pub(crate) async fn write<T, F>(&self, lane: Lane, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let gone = || StorageError::Unavailable("the database is being closed".to_owned());
        let (job, answer) = job(body, Some(lane), Runs::Again);
        self.lanes[lane.index()].send(Work::Write(job)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Runs a body in a transaction of its own, beside all lanes; again if it was undone, or if
    /// nobody knows, since it may happen twice.
    pub(crate) async fn write_twice<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let mut pause = PAUSE;
        let mut attempt = 1;
        loop {
            // Who waited for a connection in vain has waited enough.
            let reader = self.readers.lend().await?;
            match Self::write_once(reader, body.clone()).await {
                Err(StorageError::Contended(_) | StorageError::Unavailable(_))
                    if attempt < ATTEMPTS_MAX => {}
                Err(StorageError::Contended(why)) => return Err(StorageError::Unavailable(why)),
                done => return done,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
            attempt += 1;
        }
    }

    async fn write_once<T, F>(mut reader: Reader, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        reader.begins();
        message(&mut reader, session::begin_sql()).await?;
        let mut tx = Tx::new(Connection::Postgres(Box::new(PgHandle::Lent(reader))), None);
        let value = body(&mut tx).await;
        let Connection::Postgres(mut connection) = tx.connection else { return value };
        let end = if value.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = message(&mut connection, end.to_owned()).await;
        if ended.is_ok()
            && let PgHandle::Lent(reader) = &mut *connection
        {
            reader.ended();
        }
        value.and_then(|value| ended.map(|_| value))
    }

    /// Finishes the writes that wait, unless the server is away, and closes every connection.
    pub(crate) async fn close(&self) {
        let lanes = self.lanes.each_ref().map(|lane| async move {
            let (tell, closed) = oneshot::channel();
            if lane.send(Work::Close(tell)).await.is_ok() {
                let _ = closed.await;
            }
        });
        if timeout(CLOSE_PATIENCE, join_all(lanes)).await.is_err() {
            tracing::warn!("the database does not answer: what waits to be written fails");
        }
        self.readers.close(READERS_PATIENCE).await;
    }
}
