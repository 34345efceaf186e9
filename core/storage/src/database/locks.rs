//! Advisory locks of PostgreSQL: each is a number, held to the end of the transaction. On SQLite
//! they are nothing, for there one writer exists.
//!
//! Locks of transactions need no connection of their own, so a pooler in transaction mode may stand
//! between us and the server. Those of sessions do: [`Database::hold`](super::Database::hold).

use sqlx::AssertSqlSafe;

use super::{Tx, tx::Connection};
use crate::database::sql;
use crate::error::Result;

/// The first byte of all our numbers, so that we do not meet the locks of somebody else's program.
const OURS: i64 = 0x43;
/// Bits that say which row a lock is about.
const ID_BITS: u32 = 48;

/// What can be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// The schema, while it is brought up to date.
    Schema,
    /// The turn to write in a lane, by the lane's number.
    Lane(i64),
    /// The transactions of one writer, by its number.
    Writer(i64),
    /// The transactions of one incarnation: shared by each of them, held alone by who takes over.
    Incarnation(i64),
    /// The right to hand out slots.
    Coordinator,
    /// That an incarnation lives; for a session's lock on a connection of its own.
    Alive(i64),
    /// The database as a whole: a process that is the only one holds it alone, those of a cluster
    /// share it. A session's lock, too.
    Database,
}

impl Lock {
    /// Returns the number by which PostgreSQL knows the lock.
    pub fn key(self) -> i64 {
        let (kind, id) = match self {
            Self::Schema => (0, 0),
            Self::Lane(id) => (1, id),
            Self::Writer(id) => (2, id),
            Self::Incarnation(id) => (3, id),
            Self::Coordinator => (4, 0),
            Self::Alive(id) => (5, id),
            Self::Database => (6, 0),
        };
        (OURS << 56) | (kind << ID_BITS) | (id & ((1 << ID_BITS) - 1))
    }

    /// Returns the statement that takes the lock until the end of the transaction.
    pub(crate) fn take_sql(self) -> String {
        format!("SELECT pg_advisory_xact_lock({})", self.key())
    }

    /// Returns the statement that takes the lock beside others who share it.
    pub(crate) fn share_sql(self) -> String {
        format!("SELECT pg_advisory_xact_lock_shared({})", self.key())
    }
}

impl Tx {
    /// Waits for a lock and holds it until the transaction ends.
    ///
    /// # Errors
    /// When the wait takes too long, or the database fails.
    pub async fn lock(&mut self, lock: Lock) -> Result<()> {
        self.on_postgres(lock.take_sql()).await
    }

    /// Waits for a lock as one of many who share it, and holds it until the transaction ends.
    ///
    /// # Errors
    /// When the wait takes too long, or the database fails.
    pub async fn share(&mut self, lock: Lock) -> Result<()> {
        self.on_postgres(lock.share_sql()).await
    }

    /// Tells whether nobody holds a lock that a session would hold while its process lives. Never
    /// true on SQLite, where nobody can tell.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn is_abandoned(&mut self, lock: Lock) -> Result<bool> {
        const TRY: &str = "SELECT pg_try_advisory_xact_lock_shared($1)";
        let Connection::Postgres(connection) = &mut self.connection else { return Ok(false) };
        let free = sql::query_scalar(TRY).bind(lock.key()).fetch_one(&mut ***connection).await?;
        Ok(free)
    }

    /// Returns the time by the database's clock, in milliseconds since 1970: the one clock that all
    /// processes share.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn now_ms(&mut self) -> Result<i64> {
        if let Some(clock) = &self.clock {
            return Ok(clock.now_ms());
        }
        run_list!(self, "SELECT {NOW_MS}", |sql, c| sql::query_scalar(sql).fetch_one(c))
    }

    async fn on_postgres(&mut self, sql: String) -> Result<()> {
        if let Connection::Postgres(connection) = &mut self.connection {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut ***connection).await?;
        }
        Ok(())
    }
}
