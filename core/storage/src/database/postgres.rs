//! PostgreSQL: a pool; each write is a transaction of its own at READ COMMITTED, where the row
//! lock taken by `Tx::seal` makes position order equal commit order.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    CommitListener, Tx, migrations,
    tx::{Connection, PgConnectionGuard},
};
use crate::error::{Result, StorageError};

/// An open PostgreSQL database.
#[derive(Clone)]
pub(crate) struct Postgres {
    pool: PgPool,
    listener: Arc<dyn CommitListener>,
}

/// Connects and brings the tables up to date.
pub(crate) async fn open(
    url: &str,
    connections_max: u32,
    listener: Arc<dyn CommitListener>,
) -> Result<Postgres> {
    let unusable =
        |why: String| StorageError::Unusable(format!("cannot use the PostgreSQL database: {why}"));
    let options: PgConnectOptions =
        url.parse().map_err(|error: sqlx::Error| unusable(error.to_string()))?;
    let options = options
        .application_name("colonnade")
        .options([("idle_in_transaction_session_timeout", "5s"), ("lock_timeout", "10s")])
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(connections_max)
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(|error| unusable(error.to_string()))?;
    migrations::postgres(&pool).await?;
    Ok(Postgres { pool, listener })
}

impl Postgres {
    pub(crate) fn reader(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) async fn write<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let guard = PgConnectionGuard(self.pool.begin().await?);
        let mut tx = Tx { connection: Connection::Postgres(Box::new(guard)), sealed: Vec::new() };
        let value = body(&mut tx).await?;
        if let Connection::Postgres(guard) = tx.connection {
            guard.0.commit().await?;
        }
        tx.sealed.into_iter().for_each(|advance| self.listener.committed(advance));
        Ok(value)
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
