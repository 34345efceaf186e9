//! Taking locks inside a transaction, and the time by the database's clock.

use sqlx::AssertSqlSafe;

use super::{
    locks::Lock,
    sql,
    tx::{Connection, Tx},
};
use crate::error::Result;

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
