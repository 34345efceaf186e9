//! What came into several rooms, in the one order in which it became visible.

use colonnade_model::{
    nid::{EventNid, RoomNid},
    stream::Position,
};

use crate::{
    Database,
    database::{int_list, sql},
    error::Result,
};

/// A live event of one of several rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Arrival {
    /// Its position.
    pub pos: Position,
    /// The room.
    #[sqlx(rename = "room_nid", try_from = "i64")]
    pub room: RoomNid,
    /// The event.
    #[sqlx(rename = "event_nid", try_from = "i64")]
    pub event: EventNid,
}

/// Reads the live events of some rooms above `after` and up to `upto`, oldest first. Looks at whatever the
/// rooms have between the two before it takes the first: callers choose them near to each other.
///
/// # Errors
/// When the database fails.
pub async fn read(
    db: &Database,
    rooms: &[RoomNid],
    (after, upto): (Position, Position),
    limit: i64,
) -> Result<Vec<Arrival>> {
    const READ: &str = "SELECT pos, room_nid, event_nid FROM event_stream \
         WHERE room_nid IN {INTS 1} AND pos > $2 AND pos <= $3 ORDER BY pos LIMIT $4";
    let rooms = int_list(rooms.iter().map(|room| room.0));
    read_list!(db, READ, |sql, c| {
        sql::query_as(sql).bind(rooms).bind(after).bind(upto).bind(limit).fetch_all(c)
    })
}
