//! The other servers of rooms. Rows are written by [`crate::rooms::persist`] with the memberships they
//! follow from.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::OwnedServerName,
    stream::Position,
};

use crate::{
    Database,
    database::{int_list, sql},
    error::{Result, StorageError},
};

/// Users named in one statement.
const LIST_MAX: usize = 1_000;

/// Another server of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomServer {
    /// The room.
    pub room: RoomNid,
    /// The server.
    pub server: OwnedServerName,
    /// How many joined members it has there.
    pub joined: i64,
    /// When the last of them left; `None` while there are some.
    pub left: Option<Position>,
}

fn parsed(row: (i64, String, i64, Option<i64>)) -> Result<RoomServer> {
    let (room, server, joined, left) = row;
    let server = OwnedServerName::try_from(server.as_str())
        .map_err(|why| StorageError::corrupt("room_servers", "server", &server, why))?;
    Ok(RoomServer { room: RoomNid(room), server, joined, left })
}

/// Returns the other servers of some rooms, those that left too, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn of_rooms(db: &Database, rooms: &[RoomNid]) -> Result<Vec<RoomServer>> {
    const OF: &str = "SELECT room_nid, server, joined, left_pos FROM room_servers \
         WHERE room_nid IN {INTS 1}";
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<_> = read_list!(db, OF, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    rows.into_iter().map(parsed).collect()
}

/// Returns the rooms that a server is in, or left after a position.
///
/// # Errors
/// When the database fails.
pub async fn rooms_of(db: &Database, server: &str, left_after: Position) -> Result<Vec<RoomNid>> {
    const ROOMS: &str = "SELECT room_nid FROM room_servers \
         WHERE server = $1 AND (joined > 0 OR left_pos > $2)";
    let server = server.to_owned();
    let rooms: Vec<i64> =
        read!(db, |c| sql::query_scalar(ROOMS).bind(server).bind(left_after).fetch_all(c))?;
    Ok(rooms.into_iter().map(RoomNid).collect())
}

/// Tells whether a server has a joined member in a room.
///
/// # Errors
/// When the database fails.
pub async fn is_in(db: &Database, room: RoomNid, server: &str) -> Result<bool> {
    const IN: &str =
        "SELECT joined FROM room_servers WHERE room_nid = $1 AND server = $2 AND joined > 0";
    let server = server.to_owned();
    let joined: Option<i64> =
        read!(db, |c| sql::query_scalar(IN).bind(room.0).bind(server).fetch_optional(c))?;
    Ok(joined.is_some())
}

/// Returns those of some users of other servers who are in a room with somebody of this one.
///
/// # Errors
/// When the database fails.
pub async fn sharing(db: &Database, users: &[UserNid]) -> Result<Vec<UserNid>> {
    const SHARING: &str = "SELECT DISTINCT m.user_nid FROM room_members m \
         JOIN room_heads h ON h.room_nid = m.room_nid \
         WHERE m.user_nid IN {INTS 1} AND m.membership = 1 AND h.joined > \
         (SELECT COALESCE(SUM(s.joined), 0) FROM room_servers s WHERE s.room_nid = m.room_nid)";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<i64> =
            read_list!(db, SHARING, |sql, c| sql::query_scalar(sql).bind(list).fetch_all(c))?;
        found.extend(rows.into_iter().map(UserNid));
    }
    Ok(found)
}

/// Returns every server that shares a room with this one.
///
/// # Errors
/// When the database fails.
pub async fn all(db: &Database) -> Result<Vec<OwnedServerName>> {
    const ALL: &str = "SELECT DISTINCT server FROM room_servers WHERE joined > 0";
    let rows: Vec<String> = read!(db, |c| sql::query_scalar(ALL).fetch_all(c))?;
    let parsed = rows.into_iter().map(|server| {
        OwnedServerName::try_from(server.as_str())
            .map_err(|why| StorageError::corrupt("room_servers", "server", &server, why))
    });
    parsed.collect()
}
