//! Small values of the deployment that belong to the database rather than to a file: its server
//! name, the token secret, the digest secret, the epoch.

use crate::{
    Database,
    database::sql,
    error::{Result, StorageError},
};

/// Under which the first start is noted.
const FIRST_START: &str = "first_start_ms";

/// Returns the value stored under `key`.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, key: &'static str) -> Result<Option<Vec<u8>>> {
    const GET: &str = "SELECT value FROM settings WHERE key = $1";
    read!(db, |c| sql::query_scalar(GET).bind(key).fetch_optional(c))
}

/// Stores `name` as the name of a server whose data this is, unless one is stored, and returns what is
/// stored. Of a server that is new, its first start is noted, too, once for all processes.
///
/// # Errors
/// When the database fails.
pub async fn begin(db: &Database, name: Vec<u8>, now_ms: i64) -> Result<Vec<u8>> {
    db.write(move |tx| {
        Box::pin(async move {
            const PUT: &str =
                "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
            const GET: &str = "SELECT value FROM settings WHERE key = $1";
            if execute!(tx, sql::query(PUT).bind("server_name").bind(name))? == 1 {
                let now = now_ms.to_be_bytes().to_vec();
                execute!(tx, sql::query(PUT).bind(FIRST_START).bind(now))?;
            }
            run!(tx, |c| sql::query_scalar(GET).bind("server_name").fetch_one(c))
        })
    })
    .await
}

/// Returns when the server was first started, in milliseconds since the Unix epoch; `None` for one that
/// is older than this note.
///
/// # Errors
/// When the database fails.
pub async fn first_start(db: &Database) -> Result<Option<i64>> {
    let Some(bytes) = get(db, FIRST_START).await? else { return Ok(None) };
    let length = bytes.len();
    let corrupt = |_| {
        StorageError::corrupt("settings", "value", FIRST_START, format!("{length} bytes, not 8"))
    };
    Ok(Some(i64::from_be_bytes(bytes.try_into().map_err(corrupt)?)))
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

#[cfg(test)]
mod tests;
