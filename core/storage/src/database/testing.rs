//! Databases for tests: the same test runs on SQLite and on PostgreSQL, each in a place of its own.

mod proxy;

use crate::database::commit_listener::NoListener;
use std::sync::Arc;

use colonnade_testkit_postgres::Cluster;

use super::{CommitListener, Database, Location};

/// A place for one database.
pub(crate) struct World {
    pub(crate) location: Location,
    _folder: Option<tempfile::TempDir>,
}

impl World {
    /// Opens the database with nobody listening.
    pub(crate) async fn open(&self) -> Database {
        self.open_with(Arc::new(NoListener)).await
    }

    /// Opens the database for somebody who listens.
    pub(crate) async fn open_with(&self, listener: Arc<dyn CommitListener>) -> Database {
        Database::open(&self.location, listener).await.unwrap()
    }
}

impl World {
    /// Tells whether several processes may open the database.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.location, Location::Postgres { .. })
    }

    /// Returns another place on the same engine.
    pub(crate) fn another(&self) -> Self {
        match self.location {
            Location::Sqlite(_) => sqlite(),
            Location::Postgres { .. } => postgres(),
        }
    }
}

/// Makes two tests of each function that takes a [`World`]: one on SQLite, one on PostgreSQL.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::database::testing::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test($crate::database::testing::postgres()).await;
            })*
        }
    };
}

/// A new SQLite file.
pub(crate) fn sqlite() -> World {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(folder.path().join("colonnade.db"));
    World { location, _folder: Some(folder) }
}

/// A new database on the test binary's PostgreSQL.
pub(crate) fn postgres() -> World {
    let url = Cluster::shared().database();
    World {
        location: Location::Postgres {
            url,
            direct_url: None,
            connections_max: 10,
            next_migrations: None,
        },
        _folder: None,
    }
}

/// A new database on PostgreSQL, behind a way that breaks during commits. Needs a runtime.
pub(crate) fn postgres_behind_accidents(seed: u64) -> World {
    let url = Cluster::shared().database();
    let folder = tempfile::tempdir().unwrap();
    proxy::start(folder.path(), Cluster::shared().folder(), seed);
    let (start, _) = url.split_once("?host=").unwrap();
    let url = format!("{start}?host={}", folder.path().display());
    let location =
        Location::Postgres { url, direct_url: None, connections_max: 10, next_migrations: None };
    World { location, _folder: Some(folder) }
}
