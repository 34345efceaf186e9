//! The database: one type over SQLite and PostgreSQL. Nothing outside this folder names an engine.
//!
//! Invariants:
//! 1. On SQLite one writer exists; every write of the process passes through it, and all writes
//!    that wait are committed together. A caller is answered only after COMMIT.
//! 2. A failing write rolls back to its own savepoint and spoils nobody else's.
//! 3. Whoever listens to commits hears of them in position order, after they are durable.

#[macro_use]
mod dialect;
mod locks;
mod migrations;
mod postgres;
mod sqlite;
pub mod stats;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod tx;

use std::{path::PathBuf, sync::Arc};

use colonnade_model::stream::StreamAdvance;
use futures_util::future::BoxFuture;

pub(crate) use dialect::{int_list, list_sql, text_list};
pub use locks::Lock;
pub use tx::Tx;

use crate::error::{Result, StorageError};

/// Where the database is.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file in a data folder, opened by this process alone.
    Sqlite(PathBuf),
    /// A server, by connection URL (`postgres://…`).
    Postgres {
        /// The connection URL.
        url: String,
        /// How many connections this process may hold.
        connections_max: u32,
    },
}

/// Hears of every commit that advanced a stream, in order, after it is durable.
pub trait CommitListener: Send + Sync + 'static {
    /// Takes note of an advance. Must not block.
    fn committed(&self, advance: StreamAdvance);
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(crate) engine: Engine,
}

/// The two engines. Matched only by the macros in `dialect.rs` and by this folder.
#[derive(Clone)]
pub(crate) enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

impl Database {
    /// Opens the database, brings its tables up to date and starts its writer.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] with the mend when the database is locked by another process,
    /// newer than this program, or cannot be created.
    pub async fn open(location: &Location, listener: Arc<dyn CommitListener>) -> Result<Self> {
        let engine = match location {
            Location::Sqlite(path) => Engine::Sqlite(sqlite::open(path, listener).await?),
            Location::Postgres { url, connections_max } => {
                Engine::Postgres(postgres::open(url, *connections_max, listener).await?)
            }
        };
        Ok(Self { engine })
    }

    /// Runs `body` in a transaction and returns its value once that is committed.
    ///
    /// The transaction may be shared with other writers that wait at the same time; an error from
    /// `body` undoes only what `body` did. `body` runs at most once.
    ///
    /// # Errors
    /// What `body` returned, or [`StorageError::Unavailable`] when the commit failed.
    pub async fn write<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(body).await,
            Engine::Postgres(postgres) => postgres.write(body).await,
        }
    }

    /// Returns the figures of this process's writer; `None` where the server has them (PostgreSQL).
    pub fn stats(&self) -> Option<&stats::Stats> {
        match &self.engine {
            Engine::Sqlite(sqlite) => Some(sqlite.stats()),
            Engine::Postgres(_) => None,
        }
    }

    /// Returns how many writes wait for this process's writer.
    pub fn writes_waiting(&self) -> usize {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.waiting(),
            Engine::Postgres(_) => 0,
        }
    }

    /// Finishes the writes that wait and closes every connection.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.close().await,
            Engine::Postgres(postgres) => postgres.close().await,
        }
    }

    /// Copies the whole database into a new file while it is in use (SQLite only).
    ///
    /// # Errors
    /// [`StorageError::Unusable`] on PostgreSQL, which has tools of its own for this.
    pub async fn backup_to(&self, path: &std::path::Path) -> Result<()> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.backup_to(path).await,
            Engine::Postgres(_) => Err(StorageError::Unusable(
                "use pg_basebackup or pg_dump to back up PostgreSQL".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests;
