//! Who is told of a user's presence: those in a room with the user. Presence itself is never stored.

use colonnade_model::nid::{RoomNid, UserNid};

use crate::{
    Database,
    database::{int_list, sql},
    error::Result,
};

/// Returns the rooms each of `users` is joined to, in order of the users.
///
/// # Errors
/// When the database fails.
pub async fn rooms_joined(db: &Database, users: &[UserNid]) -> Result<Vec<(UserNid, RoomNid)>> {
    const JOINED: &str = "SELECT user_nid, room_nid FROM room_members \
         WHERE user_nid IN {INTS 1} AND membership = 1 ORDER BY user_nid";
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<(i64, i64)> =
        read_list!(db, JOINED, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(user, room)| (UserNid(user), RoomNid(room))).collect())
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
    let rows: Vec<i64> = read_list!(db, SHARING, |sql, c| sql::query_scalar(sql)
        .bind(user.0)
        .bind(list)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}

/// Returns those of `users` who are joined to a room.
///
/// # Errors
/// When the database fails.
pub async fn joined_of(db: &Database, room: RoomNid, users: &[UserNid]) -> Result<Vec<UserNid>> {
    const JOINED: &str = "SELECT user_nid FROM room_members \
         WHERE room_nid = $1 AND user_nid IN {INTS 2} AND membership = 1";
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<i64> = read_list!(db, JOINED, |sql, c| sql::query_scalar(sql)
        .bind(room.0)
        .bind(list)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}
