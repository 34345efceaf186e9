//! A session's lock on a connection of its own: held as long as the process lives and reaches the
//! server, and free at once when the process dies. The one connection that a pooler in transaction
//! mode cannot carry.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{sync::Mutex, time::timeout};

use super::{
    connect::connect,
    readers::{Readers, connect_or_take},
};
use crate::{
    database::{Lock, list_sql, sql},
    error::{Result, StorageError},
};

/// How long the server may take to answer before the connection counts as broken.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// A lock that is held; dropping it lets go.
pub struct Held {
    /// `None` on SQLite, where the lock file is held instead.
    connection: Option<Mutex<PgConnection>>,
}

impl Held {
    /// What is held where there is one process anyway.
    pub(crate) fn alone() -> Self {
        Self { connection: None }
    }

    /// Takes another lock on the same connection, if it is free. Both are lost together.
    ///
    /// # Errors
    /// When the connection is broken.
    pub async fn also(&self, lock: Lock, shared: bool) -> Result<bool> {
        let Some(connection) = &self.connection else { return Ok(true) };
        let mut connection = connection.lock().await;
        take(&mut connection, lock, shared).await
    }

    /// Notes on this connection that an incarnation lives, and returns when that was by the database's
    /// clock; nothing when its state is `ended` or beyond. `None` without a connection.
    ///
    /// # Errors
    /// When the connection is broken.
    pub(crate) async fn beat(&self, incarnation: i64, ended: i64) -> Result<Option<Option<i64>>> {
        const BEAT: &str = "UPDATE incarnations SET heartbeat_ts = {NOW_MS} \
             WHERE inc_id = $1 AND state < $2 RETURNING heartbeat_ts";
        let Some(connection) = &self.connection else { return Ok(None) };
        let mut connection = connection.lock().await;
        let beat = sql::query_scalar(AssertSqlSafe(list_sql(BEAT, true)));
        let beat = beat.bind(incarnation).bind(ended);
        let late = |_| StorageError::Unavailable("the server does not answer".to_owned());
        let beat = beat.fetch_optional(&mut *connection);
        Ok(Some(timeout(ANSWER_PATIENCE, beat).await.map_err(late)??))
    }

    /// Tells whether the lock is held still: its connection answers.
    pub async fn is_held(&self) -> bool {
        let Some(connection) = &self.connection else { return true };
        let mut connection = connection.lock().await;
        matches!(timeout(ANSWER_PATIENCE, connection.ping()).await, Ok(Ok(())))
    }

    /// Lets go and closes the connection.
    pub async fn release(self) {
        const LET_GO: &str = "SELECT pg_advisory_unlock_all()";
        if let Some(connection) = self.connection {
            let mut connection = connection.into_inner();
            // Said, not left to the server's noticing that we are gone: it is free when this returns.
            let let_go = async {
                let _unless_it_is_gone = sql::query(LET_GO).execute(&mut connection).await;
                let _unless_it_is_gone = connection.close().await;
            };
            let _unless_it_is_gone = timeout(ANSWER_PATIENCE, let_go).await;
        }
    }
}

/// Takes a lock if it is free; `None` if somebody else holds it. With `shared`, beside others who
/// share it. When the server has no connection left, one of `readers` becomes this one.
pub(crate) async fn hold(
    options: &PgConnectOptions,
    readers: Option<&Readers>,
    lock: Lock,
    shared: bool,
) -> Result<Option<Held>> {
    let mut connection = match readers {
        Some(readers) => connect_or_take(options, readers).await?,
        None => connect(options).await?,
    };
    if !take(&mut connection, lock, shared).await? {
        let _ended = connection.close().await;
        return Ok(None);
    }
    Ok(Some(Held { connection: Some(Mutex::new(connection)) }))
}

async fn take(connection: &mut PgConnection, lock: Lock, shared: bool) -> Result<bool> {
    let take = if shared {
        "SELECT pg_try_advisory_lock_shared($1)"
    } else {
        "SELECT pg_try_advisory_lock($1)"
    };
    Ok(sql::query_scalar(take).bind(lock.key()).fetch_one(connection).await?)
}
