//! Where history of a room is missing here: events that known ones follow and that are not known. Rows are
//! written by [`crate::rooms::persist`].

use colonnade_model::{
    nid::{EventNid, RoomNid},
    ruma::{EventId, OwnedEventId},
};

use crate::{
    Database,
    database::{int_list, sql},
    error::Result,
};

/// Returns up to `limit` of the events that are missing before the oldest part of a room's timeline.
///
/// # Errors
/// When the database fails.
pub async fn missing(db: &Database, room: RoomNid, limit: i64) -> Result<Vec<OwnedEventId>> {
    const MISSING: &str = "SELECT m.prev_event_id FROM missing_prevs m \
         JOIN events e ON e.event_nid = m.child_nid AND e.tl IS NOT NULL \
         WHERE m.room_nid = $1 ORDER BY e.tl LIMIT $2";
    let rows: Vec<String> =
        read!(db, |c| sql::query_scalar(MISSING).bind(room.0).bind(limit).fetch_all(c))?;
    Ok(rows.iter().filter_map(|id| EventId::parse(id).ok()).collect())
}

/// Returns those of a room's events of which something that they follow is missing still.
///
/// # Errors
/// When the database fails.
pub async fn after_gaps(
    db: &Database,
    room: RoomNid,
    events: &[EventNid],
) -> Result<Vec<EventNid>> {
    const AFTER: &str = "SELECT DISTINCT child_nid FROM missing_prevs \
         WHERE room_nid = $1 AND child_nid IN {INTS 2}";
    let list = int_list(events.iter().map(|event| event.0));
    let rows: Vec<i64> = read_list!(db, AFTER, |sql, c| sql::query_scalar(sql)
        .bind(room.0)
        .bind(list)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(EventNid).collect())
}

/// Returns the lowest timeline key of a room; `None` while its timeline is empty.
///
/// # Errors
/// When the database fails.
pub async fn lowest_key(db: &Database, room: RoomNid) -> Result<Option<i64>> {
    const LOWEST: &str = "SELECT tl FROM events WHERE room_nid = $1 AND tl IS NOT NULL \
         ORDER BY tl LIMIT 1";
    read!(db, |c| sql::query_scalar(LOWEST).bind(room.0).fetch_optional(c))
}
