//! Read receipts that other servers may have to be told: the public ones, of everybody; whose they are is for the
//! caller to look at.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};

use crate::{
    Database,
    database::sql,
    error::Result,
    rooms::receipts::{Kind, Receipt},
};

type Row = (i64, i64, i64, String, String, i64, i64);

fn receipt((pos, room, user, thread, event_id, event_pos, ts): Row) -> (Position, Receipt) {
    let (room, user, kind) = (RoomNid(room), UserNid(user), Kind::Public);
    (pos, Receipt { room, user, kind, thread, event_id, event_pos, ts })
}

/// Returns up to `limit` receipts of all rooms above `after` and up to `upto`, oldest first. One that its user has
/// moved on since is told with its new position.
///
/// # Errors
/// When the database fails.
pub async fn between(
    db: &Database,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<(Position, Receipt)>> {
    const NEW: &str = "SELECT pos, room_nid, user_nid, thread, event_id, event_pos, ts \
         FROM receipts WHERE pos > $1 AND pos <= $2 AND kind = 1 ORDER BY pos LIMIT $3";
    let rows: Vec<Row> =
        read!(db, |c| sql::query_as(NEW).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(receipt).collect())
}

/// Returns up to `limit` receipts above `after` and up to `upto` of the rooms that a server is in, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn between_for(
    db: &Database,
    server: &str,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<(Position, Receipt)>> {
    const NEW: &str = "SELECT t.pos, t.room_nid, t.user_nid, t.thread, t.event_id, t.event_pos, t.ts \
         FROM receipts t JOIN room_servers r ON r.room_nid = t.room_nid AND r.server = $1 \
         AND r.joined > 0 WHERE t.pos > $2 AND t.pos <= $3 AND t.kind = 1 ORDER BY t.pos LIMIT $4";
    let server = server.to_owned();
    let rows: Vec<Row> = read!(db, |c| sql::query_as(NEW)
        .bind(server)
        .bind(after)
        .bind(upto)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(receipt).collect())
}
