//! Small values of the deployment that belong to the database rather than to a file: its server
//! name, the token secret, the digest secret, the epoch.

use crate::{Database, database::sql, error::Result};

/// Returns the value stored under `key`.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, key: &'static str) -> Result<Option<Vec<u8>>> {
    const GET: &str = "SELECT value FROM settings WHERE key = $1";
    read!(db, |c| sql::query_scalar(GET).bind(key).fetch_optional(c))
}

/// Stores `value` under `key` unless something is stored there, and returns what is stored.
///
/// # Errors
/// When the database fails.
pub async fn get_or_insert(db: &Database, key: &'static str, value: Vec<u8>) -> Result<Vec<u8>> {
    db.write(move |tx| {
        Box::pin(async move {
            const PUT: &str =
                "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
            const GET: &str = "SELECT value FROM settings WHERE key = $1";
            execute!(tx, sql::query(PUT).bind(key).bind(value))?;
            run!(tx, |c| sql::query_scalar(GET).bind(key).fetch_one(c))
        })
    })
    .await
}
