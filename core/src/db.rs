//! What an operator does with the database itself, without a server: bring it up to date, move it,
//! put it back to an earlier copy.

use std::path::Path;

use colonnade_storage::{Location, StorageError, database};

pub use colonnade_storage::database::{
    Change, Pending,
    copy::{Copied, Progress},
};

/// Returns the migrations a database does not have yet, without changing anything.
///
/// # Errors
/// With the mend when the database cannot be used, or could not be brought up to date.
pub async fn pending(location: &Location) -> Result<Pending, StorageError> {
    database::pending(location).await
}

/// Brings a database up to date.
///
/// # Errors
/// With the mend when the database cannot be used.
pub async fn migrate(location: &Location) -> Result<(), StorageError> {
    database::migrate(location).await
}

/// Copies a SQLite database into an empty PostgreSQL database, or goes on with that.
///
/// # Errors
/// With the mend when either cannot be used, or they differ afterwards.
pub async fn copy(
    from: &Path,
    to: &str,
    progress: impl FnMut(Progress<'_>) + Send,
) -> Result<Vec<Copied>, StorageError> {
    database::copy::copy(from, to, progress).await
}

/// Makes a database that was put back to an earlier copy fit to be served, and returns how many
/// one-time keys that dropped.
///
/// # Errors
/// With the mend when a server runs on it or it cannot be used.
pub async fn restored(location: &Location) -> Result<u64, StorageError> {
    colonnade_storage::restored(location).await
}
