//! Who is told of a user's presence: those in a room with the user. Presence itself is never stored.

use colonnade_model::nid::UserNid;

use crate::{Database, database::int_list, error::Result};

/// Returns up to `limit` other users who share a room with `user`, both joined.
///
/// # Errors
/// When the database fails.
pub async fn audience(db: &Database, user: UserNid, limit: i64) -> Result<Vec<UserNid>> {
    const AUDIENCE: &str = "SELECT DISTINCT b.user_nid FROM room_members a \
         JOIN room_members b ON b.room_nid = a.room_nid AND b.membership = 1 \
         WHERE a.user_nid = $1 AND a.membership = 1 AND b.user_nid <> $1 LIMIT $2";
    let rows: Vec<i64> =
        read!(db, |c| sqlx::query_scalar(AUDIENCE).bind(user.0).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}

/// Returns those of `users` who share a room with `user`, both joined.
///
/// # Errors
/// When the database fails.
pub async fn sharing_of(db: &Database, user: UserNid, users: &[UserNid]) -> Result<Vec<UserNid>> {
    const SHARING: &str = "SELECT DISTINCT b.user_nid FROM room_members b \
         JOIN room_members a ON a.room_nid = b.room_nid AND a.membership = 1 AND a.user_nid = $1 \
         WHERE b.user_nid IN {INTS 2} AND b.membership = 1";
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<i64> = read_list!(db, SHARING, |sql, c| sqlx::query_scalar(sql)
        .bind(user.0)
        .bind(list)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}
