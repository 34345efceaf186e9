//! Changes of keys that other servers may have to be told, of everybody; whose they are is for the caller to look at.

use colonnade_model::{nid::UserNid, stream::Position};

use crate::{
    Database,
    database::{int_list, sql},
    error::Result,
};

/// A change of a user's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Its position, which other servers know it by.
    pub pos: Position,
    /// Whose keys.
    pub user: UserNid,
    /// The device, or `None`: the cross-signing keys.
    pub device_id: Option<String>,
    /// The change of a device of the user before it.
    pub prev: Option<Position>,
}

type Row = (i64, i64, Option<String>, Option<i64>);

fn change((pos, user, device_id, prev): Row) -> KeyChange {
    KeyChange { pos, user: UserNid(user), device_id, prev }
}

/// Returns up to `limit` changes above `after` and up to `upto`, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn between(
    db: &Database,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<KeyChange>> {
    const NEW: &str = "SELECT pos, user_nid, device_id, prev_pos FROM device_changes \
         WHERE pos > $1 AND pos <= $2 AND viewer_nid IS NULL ORDER BY pos LIMIT $3";
    let rows: Vec<Row> =
        read!(db, |c| sql::query_as(NEW).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(change).collect())
}

/// Returns up to `limit` changes above `after` and up to `upto` of users who are in a room with a server, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn between_for(
    db: &Database,
    server: &str,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<KeyChange>> {
    const NEW: &str = "SELECT d.pos, d.user_nid, d.device_id, d.prev_pos FROM device_changes d \
         WHERE d.pos > $2 AND d.pos <= $3 AND d.viewer_nid IS NULL AND EXISTS \
         (SELECT 1 FROM room_members m JOIN room_servers r ON r.room_nid = m.room_nid \
          AND r.server = $1 AND r.joined > 0 WHERE m.user_nid = d.user_nid AND m.membership = 1) \
         ORDER BY d.pos LIMIT $4";
    let server = server.to_owned();
    let rows: Vec<Row> = read!(db, |c| sql::query_as(NEW)
        .bind(server)
        .bind(after)
        .bind(upto)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(change).collect())
}

/// Returns with which servers some users share a room.
///
/// # Errors
/// When the database fails.
pub async fn servers_of(db: &Database, users: &[UserNid]) -> Result<Vec<(UserNid, String)>> {
    const SERVERS: &str = "SELECT DISTINCT m.user_nid, r.server FROM room_members m \
         JOIN room_servers r ON r.room_nid = m.room_nid AND r.joined > 0 \
         WHERE m.user_nid IN {INTS 1} AND m.membership = 1";
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<(i64, String)> =
        read_list!(db, SERVERS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(user, server)| (UserNid(user), server)).collect())
}
