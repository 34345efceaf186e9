//! Transactions of other servers, and what they were answered.

use crate::{Database, Tx, database::sql, error::Result};

/// Returns what a transaction was answered.
///
/// # Errors
/// When the database fails.
pub async fn answer(db: &Database, origin: &str, txn_id: &str) -> Result<Option<Vec<u8>>> {
    const FIND: &str = "SELECT answer FROM inbound_transactions WHERE origin = $1 AND txn_id = $2";
    let (origin, txn_id) = (origin.to_owned(), txn_id.to_owned());
    read!(db, |c| sql::query_scalar(FIND).bind(origin).bind(txn_id).fetch_optional(c))
}

/// Notes what a transaction is answered.
///
/// # Errors
/// When the database fails.
pub async fn note(
    db: &Database,
    origin: String,
    txn_id: String,
    now_ms: i64,
    answer: Vec<u8>,
) -> Result<()> {
    const NOTE: &str = "INSERT INTO inbound_transactions (origin, txn_id, received_ts, answer) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (origin, txn_id) DO NOTHING";
    db.write_twice(move |tx| {
        Box::pin(async move {
            execute!(tx, sql::query(NOTE).bind(origin).bind(txn_id).bind(now_ms).bind(answer))
                .map(drop)
        })
    })
    .await
}

/// Forgets at most `limit` transactions from before `before_ts`, in milliseconds since 1970. Fewer are the last.
///
/// # Errors
/// When the database fails.
pub async fn prune(tx: &mut Tx, before_ts: i64, limit: i64) -> Result<u64> {
    const PRUNE: &str = "DELETE FROM inbound_transactions WHERE (origin, txn_id) IN \
         (SELECT origin, txn_id FROM inbound_transactions WHERE received_ts < $1 LIMIT $2)";
    execute!(tx, sql::query(PRUNE).bind(before_ts).bind(limit))
}
