//! Filters that clients uploaded, numbered per user; the same filter gets the same number.

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result};

/// Stores a filter and returns its number; `None` when the user has `count_max` already.
///
/// # Errors
/// When the database fails.
pub async fn put(
    tx: &mut Tx,
    user: UserNid,
    digest: [u8; 32],
    body: String,
    count_max: i64,
) -> Result<Option<i64>> {
    const KNOWN: &str = "SELECT filter_id FROM filters WHERE user_nid = $1 AND digest = $2";
    const INSERT: &str = "INSERT INTO filters (user_nid, filter_id, digest, body) \
         SELECT $1, COALESCE(max(filter_id), 0) + 1, $2, $3 FROM filters WHERE user_nid = $1 \
         HAVING count(*) < $4 RETURNING filter_id";
    let known: Option<i64> = run!(tx, |c| sql::query_scalar(KNOWN)
        .bind(user.0)
        .bind(digest.to_vec())
        .fetch_optional(c))?;
    if known.is_some() {
        return Ok(known);
    }
    run!(tx, |c| sql::query_scalar(INSERT)
        .bind(user.0)
        .bind(digest.to_vec())
        .bind(body)
        .bind(count_max)
        .fetch_optional(c))
}

/// Returns a filter as it was uploaded.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, user: UserNid, filter_id: i64) -> Result<Option<String>> {
    const GET: &str = "SELECT body FROM filters WHERE user_nid = $1 AND filter_id = $2";
    read!(db, |c| sql::query_scalar(GET).bind(user.0).bind(filter_id).fetch_optional(c))
}
