//! Filters that clients uploaded, numbered per user; the same filter gets the same number.

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result, quota::Quota};

/// Stores a filter and returns its number.
///
/// # Errors
/// [`StorageError::Full`](crate::StorageError::Full) when the user would have more than `quota`; when
/// the database fails.
pub async fn put(
    tx: &mut Tx,
    user: UserNid,
    digest: [u8; 32],
    body: String,
    quota: Quota,
) -> Result<i64> {
    const KNOWN: &str = "SELECT filter_id FROM filters WHERE user_nid = $1 AND digest = $2";
    const INSERT: &str = "INSERT INTO filters (user_nid, filter_id, digest, body) \
         SELECT $1, COALESCE(max(filter_id), 0) + 1, $2, $3 FROM filters WHERE user_nid = $1 \
         RETURNING filter_id";
    const ALL: &str = "SELECT count(*), CAST(COALESCE(SUM(octet_length(body)), 0) AS BIGINT) \
         FROM filters WHERE user_nid = $1";
    let known: Option<i64> = run!(tx, |c| sql::query_scalar(KNOWN)
        .bind(user.0)
        .bind(digest.to_vec())
        .fetch_optional(c))?;
    if let Some(known) = known {
        return Ok(known);
    }
    let (items, bytes): (i64, i64) = run!(tx, |c| sql::query_as(ALL).bind(user.0).fetch_one(c))?;
    quota.require(items + 1, bytes + i64::try_from(body.len()).unwrap_or(i64::MAX))?;
    run!(tx, |c| sql::query_scalar(INSERT)
        .bind(user.0)
        .bind(digest.to_vec())
        .bind(body)
        .fetch_one(c))
}

/// Returns a filter as it was uploaded.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, user: UserNid, filter_id: i64) -> Result<Option<String>> {
    const GET: &str = "SELECT body FROM filters WHERE user_nid = $1 AND filter_id = $2";
    read!(db, |c| sql::query_scalar(GET).bind(user.0).bind(filter_id).fetch_optional(c))
}
