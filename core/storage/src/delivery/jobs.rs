//! When each chore of a deployment was done last: whoever takes one over knows whether it is due.

use crate::{Database, Tx, database::sql, error::Result};

/// Returns when a chore was done last, in milliseconds since the Unix epoch; 0: never.
///
/// # Errors
/// When the database fails.
pub async fn done_ts(db: &Database, chore: &'static str) -> Result<i64> {
    const DONE: &str = "SELECT COALESCE(MAX(done_ts), 0) FROM chores WHERE chore = $1";
    read!(db, |c| sql::query_scalar(DONE).bind(chore).fetch_one(c))
}

/// Notes that a chore was done.
///
/// # Errors
/// When the database fails.
pub async fn done(tx: &mut Tx, chore: &'static str, now_ms: i64) -> Result<()> {
    const NOTE: &str = "INSERT INTO chores (chore, done_ts) VALUES ($1, $2) \
         ON CONFLICT (chore) DO UPDATE SET done_ts = excluded.done_ts";
    execute!(tx, sql::query(NOTE).bind(chore).bind(now_ms))?;
    Ok(())
}

#[cfg(test)]
mod tests;
