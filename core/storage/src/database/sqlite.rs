//! SQLite: one writer task that commits everything waiting in one transaction, and a pool of
//! read-only connections. WAL with `synchronous=FULL`: a commit that was answered survives a
//! power cut.

mod limits;
mod reader;
pub(crate) mod stepwise;

use std::{fs::File, path::Path, sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};

use self::limits::{BUSY_TIMEOUT, STATEMENTS_MAX};
use self::{
    reader::{Reader, Readers},
    stepwise::Stepwise,
};
use super::{
    CommitListener, Lane, Pending, Tx,
    job::{Job, Runs, Work, job},
    migrations::{self, Found},
    stats::Stats,
    tx::Connection,
};
use crate::{
    database::{secret_file, sql},
    error::{Result, StorageError},
};

/// Writes that share a commit at most: bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 256;
/// Writes that may wait for the writer; beyond it callers wait in turn.
const WAITING_MAX: usize = 1024;
/// Read connections: more only take memory, since reads are short and mostly cached.
const READERS_MAX: u32 = 4;
/// An open SQLite database.
#[derive(Clone)]
pub(crate) struct Sqlite {
    readers: Readers,
    writer: mpsc::Sender<Work>,
    stats: Arc<Stats>,
    /// `None` when several simulated processes share the file.
    lock: Option<Arc<File>>,
}

/// Opens (or creates) the file and starts the writer.
pub(crate) async fn open(path: &Path, listener: Arc<dyn CommitListener>) -> Result<Sqlite> {
    let lock = lock_beside(path)?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        .pragma("cache_size", "-16384")
        .pragma("temp_store", "MEMORY")
        .pragma("journal_size_limit", "67108864")
        .disable_statement_logging();
    let unusable = |error: sqlx::Error| {
        StorageError::Unusable(format!("cannot open the database {}: {error}", path.display()))
    };
    // SQLite would make it for everybody to read; its companions get the rights that it has.
    secret_file::open_file(path).map_err(|error| unusable(error.into()))?;
    let mut connection = options.connect().await.map_err(unusable)?;
    migrations::sqlite(&mut connection, path).await?;
    let reader = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_MAX)
        .pragma("cache_size", "-4096")
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging();
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .min_connections(1)
        .test_before_acquire(false)
        .max_lifetime(None)
        .idle_timeout(None)
        .connect_with(reader)
        .await
        .map_err(unusable)?;
    let readers = Readers::Pool(readers);
    Ok(start(connection, readers, Some(Arc::new(lock)), listener, None))
}

/// Opens a file beside other simulated processes of this thread.
pub(crate) async fn open_stepwise(
    path: &Path,
    listener: Arc<dyn CommitListener>,
    steps: Stepwise,
) -> Result<Sqlite> {
    let (connection, reads) = stepwise::connect(path, &steps).await?;
    Ok(start(connection, Readers::Stepwise(Arc::new(reads)), None, listener, Some(steps)))
}

fn start(
    connection: SqliteConnection,
    readers: Readers,
    lock: Option<Arc<File>>,
    listener: Arc<dyn CommitListener>,
    steps: Option<Stepwise>,
) -> Sqlite {
    let (writer, jobs) = mpsc::channel(WAITING_MAX);
    let stats = Arc::new(Stats::default());
    tokio::spawn(write_loop(connection, jobs, listener, Arc::clone(&stats), steps));
    Sqlite { readers, writer, stats, lock }
}

/// Returns what a file lacks; one that is not there lacks all.
pub(crate) async fn pending(path: &Path) -> Result<Pending> {
    let mut found = Found::default();
    if path.is_file() {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let mut connection = options.busy_timeout(BUSY_TIMEOUT).connect().await?;
        found = Found::in_sqlite(&mut connection).await?;
        connection.close().await?;
    }
    migrations::sqlite_pending(&found, &path.display().to_string())
}

/// Brings a file up to date that no server uses.
pub(crate) async fn migrate(path: &Path) -> Result<()> {
    let sqlite = open(path, Arc::new(super::commit_listener::NoListener)).await?;
    sqlite.close().await;
    Ok(())
}

/// Holds a lock file so that no second process opens the same database.
fn lock_beside(path: &Path) -> Result<File> {
    let lock_path = path.with_extension("lock");
    let unusable =
        |why: String| StorageError::Unusable(format!("cannot lock {}: {why}", lock_path.display()));
    if let Some(folder) = path.parent() {
        secret_file::make_folder(folder).map_err(|error| unusable(error.to_string()))?;
    }
    let file = secret_file::open_file(&lock_path).map_err(|error| unusable(error.to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(unusable(
            "another process has this data folder open; stop it, or name another folder".to_owned(),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(unusable(error.to_string())),
    }
}

impl Sqlite {
    pub(crate) fn reader(&self) -> Reader<'_> {
        self.stats.read();
        Reader(&self.readers)
    }

    #[cfg(test)]
    pub(crate) fn pool(&self) -> Option<&sqlx::SqlitePool> {
        match &self.readers {
            Readers::Pool(pool) => Some(pool),
            Readers::Stepwise(_) => None,
        }
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    pub(crate) fn waiting(&self) -> usize {
        WAITING_MAX - self.writer.capacity()
    }

    pub(crate) async fn write<T, F>(&self, lane: Option<Lane>, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let gone = || StorageError::Unavailable("the database is being closed".to_owned());
        let (job, answer) = job(body, lane, Runs::Once);
        self.writer.send(Work::Write(job)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    pub(crate) async fn close(&self) {
        let (tell, closed) = oneshot::channel();
        if self.writer.send(Work::Close(tell)).await.is_ok() {
            let _ = closed.await;
        }
        if let Readers::Pool(pool) = &self.readers {
            pool.close().await;
        }
        // Whoever still holds a handle gets errors from it; the file is free for another process.
        let _ = self.lock.as_ref().map(|lock| lock.unlock());
    }

    pub(crate) async fn backup_to(&self, path: &Path) -> Result<()> {
        let target = path.to_string_lossy().into_owned();
        sql::query("VACUUM INTO $1").bind(target).execute(self.reader()).await?;
        Ok(())
    }
}

/// Commits whatever waits, again and again, until told to close and nothing waits any more.
async fn write_loop(
    connection: SqliteConnection,
    mut work: mpsc::Receiver<Work>,
    listener: Arc<dyn CommitListener>,
    stats: Arc<Stats>,
    steps: Option<Stepwise>,
) {
    let mut tx = Tx::new(Connection::Sqlite(Box::new(connection)), None);
    tx.set_clock(steps.as_ref().map(|steps| Arc::clone(&steps.clock)));
    let mut closing = Vec::new();
    while let Some(first) = work.recv().await {
        match first {
            Work::Write(first) => {
                let begun = Instant::now();
                let ran = match &steps {
                    None => {
                        let group = group(&mut tx, first, &mut work, &mut closing, None).await;
                        tell(&mut tx, group, true, listener.as_ref())
                    }
                    Some(Stepwise { fate, .. }) => {
                        fate.write().await;
                        let fated = Some(fate.as_ref());
                        let group = group(&mut tx, first, &mut work, &mut closing, fated);
                        let group = stepwise::at_once(group);
                        let answered = group.committed.is_err() || fate.answers().await;
                        tell(&mut tx, group, answered, listener.as_ref())
                    }
                };
                match ran {
                    Ok(writes) => stats.committed(writes, begun.elapsed()),
                    Err(error) => {
                        tracing::error!(%error, "a group of writes was not committed");
                    }
                }
            }
            Work::Close(tell) => closing.push(tell),
        }
        if !closing.is_empty() {
            work.close();
        }
    }
    if let Connection::Sqlite(connection) = tx.connection {
        let _ = connection.close().await;
    }
    for tell in closing {
        let _ = tell.send(());
    }
}

/// Writes that shared a transaction.
struct Group {
    /// Those that went well, and wait to be told.
    waiting: Vec<Box<dyn Job>>,
    /// How many there were.
    ran: usize,
    committed: Result<()>,
}

/// Runs one group of writes and commits it.
async fn group(
    tx: &mut Tx,
    first: Box<dyn Job>,
    work: &mut mpsc::Receiver<Work>,
    closing: &mut Vec<oneshot::Sender<()>>,
    fate: Option<&dyn stepwise::Fate>,
) -> Group {
    tx.sealed.clear();
    let mut waiting = Vec::new();
    let mut ran = 0;
    let mut next = Some(first);
    let mut failed = execute(tx, "BEGIN IMMEDIATE").await.err();
    while failed.is_none()
        && let Some(job) = next.take()
    {
        match one(tx, job).await {
            Ok(Some(job)) => waiting.push(job),
            Ok(None) => {}
            Err(error) => failed = Some(error),
        }
        ran += 1;
        if failed.is_none() && ran < BATCH_MAX {
            next = match work.try_recv() {
                Ok(Work::Write(job)) => Some(job),
                Ok(Work::Close(tell)) => {
                    closing.push(tell);
                    None
                }
                Err(_) => None,
            };
        }
    }
    // Could not even begin.
    waiting.extend(next);
    if failed.is_none() && fate.is_some_and(|fate| !fate.commits(&tx.sealed)) {
        failed = Some(StorageError::Unavailable("the commit failed".to_owned()));
    }
    let committed = match failed {
        None => execute(tx, "COMMIT").await,
        Some(error) => Err(error),
    };
    if committed.is_err() {
        let _ = execute(tx, "ROLLBACK").await;
    }
    Group { waiting, ran, committed }
}

/// Tells everybody what became of a group of writes, and returns how many they were.
fn tell(tx: &mut Tx, group: Group, answered: bool, listener: &dyn CommitListener) -> Result<usize> {
    let Group { waiting, ran, committed } = group;
    match committed {
        Ok(()) => {
            for advance in tx.sealed.drain(..) {
                listener.committed(advance);
            }
            for job in waiting {
                let outcome = match job.lane() {
                    None if !answered => Err("nobody knows whether it was committed"),
                    _ => Ok(()),
                };
                job.finish(outcome.map_err(|why| StorageError::Unavailable(why.to_owned())));
            }
            Ok(ran)
        }
        Err(error) => {
            let why = error.to_string();
            for job in waiting {
                job.finish(Err(StorageError::Unavailable(why.clone())));
            }
            Err(error)
        }
    }
}

/// Runs one write between savepoints and returns it if it waits for the commit now. An error here
/// is the connection's, not the write's.
async fn one(tx: &mut Tx, mut job: Box<dyn Job>) -> Result<Option<Box<dyn Job>>> {
    let before = tx.mark();
    tx.set_lane(job.lane());
    execute(tx, "SAVEPOINT job").await?;
    match job.run(tx).await {
        Ok(()) => {
            execute(tx, "RELEASE job").await?;
            Ok(Some(job))
        }
        Err(error) => {
            tx.back_to(before);
            job.finish(Err(error));
            execute(tx, "ROLLBACK TO job").await?;
            execute(tx, "RELEASE job").await?;
            Ok(None)
        }
    }
}

async fn execute(tx: &mut Tx, sql: &'static str) -> Result<()> {
    let Connection::Sqlite(connection) = &mut tx.connection else {
        return Err(StorageError::Failed("the writer lost its connection".to_owned()));
    };
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut **connection).await?;
    Ok(())
}
