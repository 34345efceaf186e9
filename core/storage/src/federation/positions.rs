//! How far each destination has been told of the streams: what comes after its position is still to be sent.

use std::collections::HashMap;

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::OwnedServerName,
    stream::{Position, Stream},
};

use crate::{Database, Tx, database::sql, error::Result, rooms::events::EventFlags};

/// An event that may have to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sendable {
    /// Its position.
    pub pos: Position,
    /// Its room.
    pub room: RoomNid,
    /// The event.
    pub event: EventNid,
    /// Who sent it.
    pub sender: UserNid,
    /// Whether its server handed it over, for this one to tell the others.
    pub is_handed_over: bool,
}

fn sendable((pos, room, event, sender, flags): (i64, i64, i64, i64, i64)) -> Sendable {
    Sendable {
        pos,
        room: RoomNid(room),
        event: EventNid(event),
        sender: UserNid(sender),
        is_handed_over: EventFlags(flags).has(EventFlags::HANDED_OVER),
    }
}

/// Returns how far every destination was told of a stream.
///
/// # Errors
/// When the database fails.
pub async fn all(db: &Database, stream: Stream) -> Result<HashMap<OwnedServerName, Position>> {
    const ALL: &str = "SELECT server, pos FROM destination_positions WHERE stream = $1";
    let rows: Vec<(String, i64)> =
        read!(db, |c| sql::query_as(ALL).bind(stream as i64).fetch_all(c))?;
    let parsed = rows
        .into_iter()
        .filter_map(|(server, pos)| Some((OwnedServerName::try_from(server.as_str()).ok()?, pos)));
    Ok(parsed.collect())
}

/// Returns how far a destination was told of a stream; `None` when it never was.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, server: &str, stream: Stream) -> Result<Option<Position>> {
    const GET: &str = "SELECT pos FROM destination_positions WHERE server = $1 AND stream = $2";
    let server = server.to_owned();
    read!(db, |c| sql::query_scalar(GET).bind(server).bind(stream as i64).fetch_optional(c))
}

/// Notes how far a destination was told of a stream.
///
/// # Errors
/// When the database fails.
pub async fn put(tx: &mut Tx, server: &str, stream: Stream, pos: Position) -> Result<()> {
    const PUT: &str = "INSERT INTO destination_positions (server, stream, pos) VALUES ($1, $2, $3) \
         ON CONFLICT (server, stream) DO UPDATE SET pos = excluded.pos";
    execute!(tx, sql::query(PUT).bind(server.to_owned()).bind(stream as i64).bind(pos)).map(drop)
}

/// Notes where a destination begins: it was told of everything before. One that has begun goes on.
pub(crate) async fn begin(tx: &mut Tx, server: &str, stream: Stream, pos: Position) -> Result<()> {
    const BEGIN: &str = "INSERT INTO destination_positions (server, stream, pos) \
         VALUES ($1, $2, $3) ON CONFLICT (server, stream) DO NOTHING";
    execute!(tx, sql::query(BEGIN).bind(server.to_owned()).bind(stream as i64).bind(pos)).map(drop)
}

/// Notes that a destination begins where streams of other lanes stand. What they seal meanwhile it is told, too.
pub(crate) async fn begin_now(tx: &mut Tx, server: &str, stream: Stream) -> Result<()> {
    const BEGIN: &str = "INSERT INTO destination_positions (server, stream, pos) \
         SELECT CAST($1 AS TEXT), stream, pos FROM stream_positions WHERE stream = $2 \
         ON CONFLICT (server, stream) DO NOTHING";
    execute!(tx, sql::query(BEGIN).bind(server.to_owned()).bind(stream as i64)).map(drop)
}

/// Notes that a server is to be told of an event of a room that it is not in: it ends an invitation, or a knock, of
/// one of its users.
///
/// # Errors
/// When the database fails.
pub(crate) async fn note_end(tx: &mut Tx, server: &str, pos: Position) -> Result<()> {
    const END: &str = "INSERT INTO destination_members (server, pos) VALUES ($1, $2)";
    execute!(tx, sql::query(END).bind(server.to_owned()).bind(pos))?;
    begin(tx, server, Stream::Events, pos - 1).await
}

/// Forgets the ends of invitations up to a position, of which a server was told.
///
/// # Errors
/// When the database fails.
pub async fn forget_ends(tx: &mut Tx, server: &str, upto: Position) -> Result<()> {
    const FORGET: &str = "DELETE FROM destination_members WHERE server = $1 AND pos <= $2";
    execute!(tx, sql::query(FORGET).bind(server.to_owned()).bind(upto)).map(drop)
}

/// Returns up to `limit` events of all rooms above `after` and up to `upto`, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn events(
    db: &Database,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<Sendable>> {
    const EVENTS: &str = "SELECT s.pos, s.room_nid, s.event_nid, s.sender_nid, e.flags \
         FROM event_stream s JOIN events e ON e.event_nid = s.event_nid \
         WHERE s.pos > $1 AND s.pos <= $2 ORDER BY s.pos LIMIT $3";
    let rows: Vec<(i64, i64, i64, i64, i64)> =
        read!(db, |c| sql::query_as(EVENTS).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(sendable).collect())
}

/// Returns up to `limit` events above `after` and up to `upto` of the rooms that a server was in then, and those
/// that end invitations of its users, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn events_for(
    db: &Database,
    server: &str,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<Sendable>> {
    const EVENTS: &str = "SELECT s.pos, s.room_nid, s.event_nid, s.sender_nid, e.flags \
         FROM event_stream s JOIN events e ON e.event_nid = s.event_nid \
         JOIN room_servers r ON r.room_nid = s.room_nid AND r.server = $1 \
         WHERE s.pos > $2 AND s.pos <= $3 AND (r.joined > 0 OR r.left_pos >= s.pos) \
         UNION SELECT s.pos, s.room_nid, s.event_nid, s.sender_nid, e.flags \
         FROM destination_members d JOIN event_stream s ON s.pos = d.pos \
         JOIN events e ON e.event_nid = s.event_nid \
         WHERE d.server = $1 AND d.pos > $2 AND d.pos <= $3 \
         ORDER BY 1 LIMIT $4";
    let server = server.to_owned();
    let rows: Vec<(i64, i64, i64, i64, i64)> = read!(db, |c| sql::query_as(EVENTS)
        .bind(server)
        .bind(after)
        .bind(upto)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(sendable).collect())
}
