//! Messages to devices that other servers sent, by the names they gave them: each is taken once.

use crate::{Tx, database::sql, error::Result};

/// Takes note of a message and tells whether it is new.
///
/// # Errors
/// When the database fails.
pub(crate) async fn note(
    tx: &mut Tx,
    origin: String,
    message_id: String,
    now_ms: i64,
) -> Result<bool> {
    const NOTE: &str = "INSERT INTO inbound_messages (origin, message_id, received_ts) \
         VALUES ($1, $2, $3) ON CONFLICT (origin, message_id) DO NOTHING";
    let new = execute!(tx, sql::query(NOTE).bind(origin).bind(message_id).bind(now_ms))?;
    Ok(new > 0)
}

/// Forgets at most `limit` messages from before `before_ts`, in milliseconds since 1970. Fewer are the last.
///
/// # Errors
/// When the database fails.
pub async fn prune(tx: &mut Tx, before_ts: i64, limit: i64) -> Result<u64> {
    const PRUNE: &str = "DELETE FROM inbound_messages WHERE (origin, message_id) IN \
         (SELECT origin, message_id FROM inbound_messages WHERE received_ts < $1 LIMIT $2)";
    execute!(tx, sql::query(PRUNE).bind(before_ts).bind(limit))
}
