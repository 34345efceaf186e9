//! One writer's connection: begins transactions, commits them, and finds out what became of a
//! commit whose answer was lost.
//!
//! Invariants:
//! 1. Every transaction holds the lock of its writer, and writes that writer's count of commits in
//!    the message that commits. Whoever gets the lock later sees the count, and so knows.
//! 2. A lane's turn is a lock, held to COMMIT; PostgreSQL makes a commit visible before it releases
//!    locks. Positions are read after the lock, in a statement of their own. So whoever sees a
//!    position sees everything below it.
//! 3. Everything is of the transaction: a pooler in transaction mode may stand in between.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use colonnade_model::stream::{Stream, StreamAdvance};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::time::{Instant, sleep, timeout};

use super::{
    connect::connect,
    message::{ANSWER_PATIENCE, message, positions, turn_sql},
    readers::{Readers, connect_or_take},
};
use crate::database::incarnation::FENCED;
use crate::{
    database::{
        Lane, Lock, Tx, sql,
        tx::{Connection, PgHandle},
    },
    error::{Result, StorageError},
};

/// How long a server that went away is waited for before waiting writes are refused: a restart
/// takes a second or two, and a client's retry costs more than the wait.
const SERVER_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Limits of every transaction: a process that stalls inside one gives its turn back soon, and
/// nobody waits for a lock for ever.
const LIMITS: &str = "SET LOCAL idle_in_transaction_session_timeout = '5s'; \
     SET LOCAL lock_timeout = '10s'";

/// The day as the database sees it, counted from 1970.
macro_rules! today {
    () => {
        "CAST(floor(extract(epoch FROM now()) / 86400) AS BIGINT)"
    };
}
/// Makes a number for a writer. By chance, so that a database that lost its last minutes cannot
/// give the same one out twice.
const NEW: &str = concat!(
    "INSERT INTO writers (writer, commits, day) \
     SELECT 1 + CAST(floor(random() * 140737488355327) AS BIGINT), 0, ",
    today!(),
    " RETURNING writer"
);
/// Forgets writers that did not commit for a month: their processes ended without doing it.
pub(crate) const FORGET_OLD: &str = concat!("DELETE FROM writers WHERE day < ", today!(), " - 30");

/// The connection of one writer.
pub(crate) struct Session {
    lane: Lane,
    options: PgConnectOptions,
    /// Connections for reads. When the server has no other left, one of these becomes the writer's.
    readers: Readers,
    incarnation: Arc<AtomicI64>,
    connection: Option<Box<PgConnection>>,
    /// The server was waited for, and did not come back.
    is_away: bool,
    /// The number under which this writer counts its commits; 0: none yet.
    writer: i64,
    commits: i64,
}

/// How a commit went.
pub(crate) enum Committed {
    /// It is durable.
    Yes(Vec<StreamAdvance>),
    /// It was undone, by us or by the server.
    No(StorageError),
    /// The answer was lost; [`Session::find_out`] knows.
    Unknown(Vec<StreamAdvance>),
}

impl Session {
    /// Opens the connection of a lane: at the start, while there is one, for reads take what is left.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] with the mend when the server has none for it.
    pub(crate) async fn open(
        lane: Lane,
        options: PgConnectOptions,
        readers: Readers,
        incarnation: Arc<AtomicI64>,
    ) -> Result<Self> {
        let connection = Box::new(connect(&options).await?);
        let (writer, commits, is_away) = (0, 0, false);
        let mut session = Self {
            lane,
            options,
            readers,
            incarnation,
            connection: None,
            is_away,
            writer,
            commits,
        };
        session.connection = Some(session.numbered(connection).await?);
        Ok(session)
    }

    /// Tells whether the server was waited for in vain, and so need not be waited for again.
    pub(crate) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Begins a transaction, connecting first if need be; with a savepoint if `shared`.
    ///
    /// # Errors
    /// When the server cannot be reached, or this process was fenced.
    pub(crate) async fn begin(&mut self, shared: bool) -> Result<Tx> {
        let mut connection = self.connected().await?;
        let rows = match self.open_transaction(&mut connection, shared).await {
            Ok(rows) => rows,
            // Connections that idled while the server restarted are found out here.
            Err(StorageError::Unavailable(_)) => {
                connection = self.connected().await?;
                self.open_transaction(&mut connection, shared).await?
            }
            Err(error) => return Err(error),
        };
        let connection = Box::new(PgHandle::Own(connection));
        let mut tx = Tx::new(Connection::Postgres(connection), Some(self.lane));
        let incarnation = self.incarnation.load(Ordering::Acquire);
        if incarnation != 0 && !lives(&rows)? {
            let _undone = self.undo(tx).await;
            let why = format!("incarnation {incarnation} was taken over");
            return Err(StorageError::Fenced(why));
        }
        if self.lane.turn_comes_first() {
            tx.positions = Some(positions(&rows)?);
        }
        Ok(tx)
    }

    async fn open_transaction(
        &self,
        connection: &mut PgConnection,
        shared: bool,
    ) -> Result<Vec<PgRow>> {
        let incarnation = self.incarnation.load(Ordering::Acquire);
        let mut sql = format!("{}; {}", begin_sql(), Lock::Writer(self.writer).take_sql());
        if incarnation != 0 {
            sql.push_str(&format!(
                "; {}; SELECT state FROM incarnations WHERE inc_id = {incarnation}",
                Lock::Incarnation(incarnation).share_sql()
            ));
        }
        if self.lane.turn_comes_first() {
            sql.push_str("; ");
            sql.push_str(&turn_sql(self.lane));
        }
        if shared {
            sql.push_str("; SAVEPOINT job");
        }
        message(connection, sql).await
    }

    /// Commits: the new positions, the count of commits and COMMIT are one message, so that a
    /// process that stalls does so before it or after it.
    pub(crate) async fn commit(&mut self, mut tx: Tx) -> Committed {
        let sealed = std::mem::take(&mut tx.sealed);
        let mut sql = String::new();
        for (stream, pos) in highest(&sealed) {
            let number = stream.number();
            sql.push_str(&format!(
                "UPDATE stream_positions SET pos = {pos} WHERE stream = {number}; "
            ));
        }
        let (writer, commits, today) = (self.writer, self.commits + 1, today!());
        sql.push_str(&format!(
            "INSERT INTO writers (writer, commits, day) VALUES ({writer}, {commits}, {today}) \
             ON CONFLICT (writer) DO UPDATE SET commits = excluded.commits, day = excluded.day; \
             COMMIT"
        ));
        let Connection::Postgres(connection) = &mut tx.connection else {
            return Committed::No(StorageError::Failed("not a PostgreSQL connection".to_owned()));
        };
        self.commits = commits;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut ***connection);
        match timeout(ANSWER_PATIENCE, rows).await {
            Ok(Ok(_)) => {
                self.keep(tx);
                Committed::Yes(sealed)
            }
            // Refused, by a server that lives to undo the rest of the transaction.
            Ok(Err(error @ sqlx::Error::Database(_))) => match self.undo(tx).await {
                Ok(()) => Committed::No(error.into()),
                Err(_) => Committed::Unknown(sealed),
            },
            // The connection is dropped with the transaction: an answer that comes late is nobody's.
            Ok(Err(_)) | Err(_) => Committed::Unknown(sealed),
        }
    }

    /// Undoes a transaction and keeps its connection.
    ///
    /// # Errors
    /// When the connection is broken; the server undoes the transaction then.
    pub(crate) async fn undo(&mut self, mut tx: Tx) -> Result<()> {
        if let Connection::Postgres(connection) = &mut tx.connection {
            message(connection, "ROLLBACK".to_owned()).await?;
        }
        self.keep(tx);
        Ok(())
    }

    /// Returns whether the last commit happened. Waits for the server as long as it takes: whoever
    /// waits for the answer must not be told anything else.
    pub(crate) async fn find_out(&mut self) -> bool {
        loop {
            match self.count_of_commits().await {
                Ok(count) => return count == Some(self.commits),
                Err(error) => {
                    tracing::warn!(%error, "what became of a commit is not known yet");
                    sleep(CONNECT_PAUSE).await;
                }
            }
        }
    }

    async fn count_of_commits(&mut self) -> Result<Option<i64>> {
        let mut connection = self.connected().await?;
        let lock = Lock::Writer(self.writer).take_sql();
        let begin = format!("{}; {lock}", begin_sql());
        message(&mut connection, begin).await?;
        let count = format!("SELECT commits FROM writers WHERE writer = {}; COMMIT", self.writer);
        let rows = message(&mut connection, count).await?;
        self.connection = Some(connection);
        Ok(rows.first().map(|row| row.try_get(0)).transpose()?)
    }

    /// Takes the connection, making one if there is none.
    async fn connected(&mut self) -> Result<Box<PgConnection>> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        let begun = Instant::now();
        loop {
            match self.connect().await {
                Ok(connection) => {
                    self.is_away = false;
                    return Ok(connection);
                }
                Err(error) if begun.elapsed() > SERVER_PATIENCE => {
                    self.is_away = true;
                    return Err(StorageError::Unavailable(error.to_string()));
                }
                Err(_) => sleep(CONNECT_PAUSE).await,
            }
        }
    }

    async fn connect(&mut self) -> Result<Box<PgConnection>> {
        let connection = connect_or_take(&self.options, &self.readers).await?;
        self.numbered(Box::new(connection)).await
    }

    /// Makes sure that this writer has a number.
    async fn numbered(&mut self, mut connection: Box<PgConnection>) -> Result<Box<PgConnection>> {
        if self.writer == 0 {
            self.writer = sql::query_scalar(NEW).fetch_one(&mut *connection).await?;
        }
        Ok(connection)
    }

    /// Keeps the connection of a transaction that is over.
    fn keep(&mut self, tx: Tx) {
        if let Connection::Postgres(handle) = tx.connection
            && let PgHandle::Own(connection) = *handle
        {
            self.connection = Some(connection);
        }
    }

    /// Forgets this writer and closes its connection.
    pub(crate) async fn close(mut self) {
        const FORGET: &str = "DELETE FROM writers WHERE writer = $1";
        if let Some(mut connection) = self.connection.take() {
            let _unless_it_is_gone =
                sql::query(FORGET).bind(self.writer).execute(&mut *connection).await;
            let _unless_it_is_gone = connection.close().await;
        }
    }
}

/// Returns the statements that begin a transaction within its limits.
pub(crate) fn begin_sql() -> String {
    format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {LIMITS}")
}

/// Tells whether the incarnation asked for is one that may write.
fn lives(rows: &[PgRow]) -> Result<bool> {
    use sqlx::Column as _;
    let state = rows.iter().find(|row| row.len() == 1 && row.column(0).name() == "state");
    let state: Option<i64> = state.map(|row| row.try_get(0)).transpose()?;
    Ok(state.is_some_and(|state| state < FENCED))
}

/// Returns where each sealed stream stands after the transaction.
fn highest(sealed: &[StreamAdvance]) -> impl Iterator<Item = (Stream, i64)> + '_ {
    Stream::ALL.into_iter().filter_map(|stream| {
        let last = sealed.iter().rev().find(|advance| advance.stream == stream)?;
        Some((stream, last.upto))
    })
}
