//! The database: one type over SQLite and PostgreSQL. Nothing outside this folder names an engine.
//!
//! Invariants:
//! 1. Every write of a lane passes through one writer per process, and all that wait are committed
//!    together; SQLite has one writer for all lanes. A caller is answered only after COMMIT.
//! 2. A failing write rolls back to its own savepoint and spoils nobody else's.
//! 3. Whoever listens to commits hears of them in position order, after they are durable.

#[macro_use]
mod dialect;
#[cfg(test)]
#[macro_use]
pub(crate) mod testing;
mod bulk;
mod clock;
mod commit_listener;
pub mod copy;
mod errors;
pub(crate) mod incarnation;
mod job;
mod lane;
mod lists;
mod locks;
pub mod metrics;
mod migrations;
mod postgres;
pub(crate) mod restored;
pub mod secret_file;
pub mod settings;
pub(crate) mod sql;
mod sqlite;
pub mod stats;
pub mod stored_json;
mod turn;
pub(crate) mod tx;

use std::{path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

pub(crate) use bulk::{Bulk, Cell};
pub use clock::DatabaseClock;
pub use commit_listener::CommitListener;
pub use lane::Lane;
pub(crate) use lists::{int_list, list_sql};
pub use locks::Lock;
pub use migrations::{Change, Pending};
pub use postgres::Held;
pub(crate) use sql::text_list;
pub use sqlite::stepwise::{Fate, Stepwise};
pub use tx::Tx;

use crate::error::{Result, StorageError};

/// Where the database is. Shown without the password.
#[derive(Clone)]
pub enum Location {
    /// A file in a data folder, opened by this process alone.
    Sqlite(PathBuf),
    /// A server, by connection URL (`postgres://…`).
    Postgres {
        /// The connection URL.
        url: String,
        /// The same database past a pooler, for what needs a session; `None`: `url` is direct.
        direct_url: Option<String>,
        /// How many connections this process may hold.
        connections_max: u32,
        /// A folder of migrations that are not built in: tests of upgrades stand for the version to
        /// come with it.
        next_migrations: Option<PathBuf>,
    },
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres { connections_max, .. } => {
                f.debug_struct("Postgres").field("connections_max", connections_max).finish()
            }
        }
    }
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(crate) engine: Engine,
    /// The newest migration this process knows.
    pub(crate) schema_known: i64,
}

/// The two engines. Matched only by the macros in `dialect.rs` and by this folder.
#[derive(Clone)]
pub(crate) enum Engine {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// Reads a setting without changing anything; `None` when there is no database or setting yet, and
/// always on SQLite, where the first to come locks the file.
///
/// # Errors
/// [`StorageError::Unusable`] with the mend when the server cannot be reached or is not for us.
pub async fn peek(location: &Location, key: &'static str) -> Result<Option<Vec<u8>>> {
    match location {
        Location::Sqlite(_) => Ok(None),
        Location::Postgres { url, .. } => postgres::peek(url, key).await,
    }
}

/// Returns the migrations a database does not have yet, without changing anything.
///
/// # Errors
/// [`StorageError::Unusable`] with the mend when the database cannot be used, is newer in a way this
/// program cannot live with, or has processes that could not live with a migration it lacks.
pub async fn pending(location: &Location) -> Result<Pending> {
    match location {
        Location::Sqlite(path) => sqlite::pending(path).await,
        Location::Postgres { url, direct_url, next_migrations, .. } => {
            let url = direct_url.as_deref().unwrap_or(url);
            postgres::pending(url, next_migrations.as_deref()).await
        }
    }
}

/// Brings a database up to date.
///
/// # Errors
/// [`StorageError::Unusable`] with the mend when the database cannot be used.
pub async fn migrate(location: &Location) -> Result<()> {
    match location {
        Location::Sqlite(path) => sqlite::migrate(path).await,
        Location::Postgres { url, direct_url, next_migrations, .. } => {
            let url = direct_url.as_deref().unwrap_or(url);
            postgres::migrate(url, next_migrations.as_deref()).await
        }
    }
}

impl Database {
    /// Opens the database, brings its tables up to date and starts its writer.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] with the mend when the database is locked by another process,
    /// newer than this program, or cannot be created.
    pub async fn open(location: &Location, listener: Arc<dyn CommitListener>) -> Result<Self> {
        let (engine, schema_known) = match location {
            Location::Sqlite(path) => {
                (Engine::Sqlite(sqlite::open(path, listener).await?), migrations::KNOWN)
            }
            Location::Postgres { url, direct_url, connections_max, next_migrations } => {
                let with = (*connections_max, next_migrations.as_deref());
                let opened = postgres::open(url, direct_url.as_deref(), with, listener).await?;
                (Engine::Postgres(opened.0), opened.1)
            }
        };
        Ok(Self { engine, schema_known })
    }

    /// Opens an SQLite file that is up to date for one of several simulated processes of this thread
    /// ([`Fate`]). Call it in the runtime of that process.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the file cannot be opened.
    pub async fn open_stepwise(
        path: &std::path::Path,
        listener: Arc<dyn CommitListener>,
        steps: Stepwise,
    ) -> Result<Self> {
        let sqlite = sqlite::open_stepwise(path, listener, steps).await?;
        Ok(Self { engine: Engine::Sqlite(sqlite), schema_known: migrations::KNOWN })
    }

    /// Runs `body` in a transaction and returns its value once that is committed.
    ///
    /// The transaction may be shared with other writers that wait at the same time; an error from
    /// `body` undoes only what `body` did. No other write of the same lane ([`Lane::General`])
    /// happens meanwhile, in any process. On PostgreSQL a transaction may be undone through no fault
    /// of its bodies; then clones of them run again. What `body` does takes effect once.
    ///
    /// # Errors
    /// What `body` returned, or [`StorageError::Unavailable`] when it could not be committed: then
    /// nothing of it is.
    pub async fn write<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        self.write_in(Lane::General, body).await
    }

    /// [`Database::write`] in a lane of the caller's choice.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn write_in<T, F>(&self, lane: Lane, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(Some(lane), body).await,
            Engine::Postgres(postgres) => postgres.write(lane, body).await,
        }
    }

    /// Runs a body that waits for nobody's turn, seals nothing, and may take effect twice: one
    /// statement, mostly, that does nothing the second time.
    ///
    /// # Errors
    /// What `body` returned, or [`StorageError::Unavailable`] when nobody knows whether it was
    /// committed.
    pub async fn write_twice<T, F>(&self, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.write(None, body).await,
            Engine::Postgres(postgres) => postgres.write_twice(body).await,
        }
    }

    /// Tells whether other processes may use the database beside this one.
    pub(crate) fn can_be_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_))
    }

    /// Makes every write of this process from now on one of this incarnation: none commits once the
    /// incarnation was taken over. What it owns is [`fence`](crate::ownership::fence)'s to check.
    pub fn set_incarnation(&self, incarnation: i64) {
        if let Engine::Postgres(postgres) = &self.engine {
            postgres.set_incarnation(incarnation);
        }
    }

    /// Takes a lock for as long as this process lives, if it is free; `None` if somebody else holds
    /// it. With `shared`, beside others who share it. On SQLite the file is locked already.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn hold(&self, lock: Lock, shared: bool) -> Result<Option<Held>> {
        match &self.engine {
            Engine::Sqlite(_) => Ok(Some(Held::alone())),
            Engine::Postgres(postgres) => postgres.hold(lock, shared).await,
        }
    }

    /// Returns the figures of this process's writers.
    pub fn stats(&self) -> &stats::Stats {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.stats(),
            Engine::Postgres(postgres) => postgres.stats(),
        }
    }

    /// Returns how many writes wait for this process's writers.
    pub fn writes_waiting(&self) -> usize {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.waiting(),
            Engine::Postgres(postgres) => postgres.waiting(),
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
mod contract;
#[cfg(test)]
mod races;
#[cfg(test)]
mod statements;
#[cfg(test)]
mod tests;
