//! Where history of a room is missing here: events that known ones follow and that are not known. Rows are
//! written by [`crate::rooms::persist`].

use colonnade_model::{
    nid::RoomNid,
    ruma::{EventId, OwnedEventId},
};

use crate::{Database, database::sql, error::Result};

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

/// Returns the lowest timeline key of a room; `None` while its timeline is empty.
///
/// # Errors
/// When the database fails.
pub async fn lowest_key(db: &Database, room: RoomNid) -> Result<Option<i64>> {
    const LOWEST: &str = "SELECT tl FROM events WHERE room_nid = $1 AND tl IS NOT NULL \
         ORDER BY tl LIMIT 1";
    read!(db, |c| sql::query_scalar(LOWEST).bind(room.0).fetch_optional(c))
}
