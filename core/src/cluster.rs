//! Entering a cluster: one process of many over one PostgreSQL, which share the lock that a process
//! alone holds for itself. Taking part is `colonnade_replication`'s.

use colonnade_storage::{Database, Held, Location};

use crate::{StartError, alone};

/// Shares the lock of the database.
///
/// # Errors
/// [`StartError::NotShared`] on SQLite, [`StartError::InUse`] beside a process that is alone.
pub(crate) async fn enter(db: &Database, location: &Location) -> Result<Held, StartError> {
    match location {
        Location::Sqlite(_) => Err(StartError::NotShared),
        Location::Postgres { .. } => alone::hold(db, true).await,
    }
}
