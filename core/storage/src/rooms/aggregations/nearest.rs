//! The events of a room nearest to a time, as somebody sees them. In a room of which he sees little, all
//! between the time and the next stretch he sees is hidden, and may be millions: of those only a few are
//! looked at, and the walk goes on where his stretches begin.

use colonnade_model::{
    nid::{EventNid, RoomNid},
    stream::Position,
};

use super::{Direction, Lens};
use crate::{Database, database::sql, error::Result};

/// Events looked at around the time, and in each stretch: more than ever are hidden among what is seen.
const WINDOW: i64 = 2_000;
/// Stretches looked into, the nearest first: each is a stay, and hardly any is empty.
const STRETCHES_MAX: usize = 10;

/// An event on the way.
#[derive(Debug, Clone, Copy)]
struct Step {
    event: EventNid,
    origin_ts: i64,
    pos: Position,
}

/// Returns the `limit` events of a room's timeline nearest to a time, at or after it (forward) or at
/// or before it (backward), the nearest first, as somebody sees them through a lens. Where the nearest are
/// many and hidden, the order is that of the stream, in which times hardly ever go back.
///
/// # Errors
/// When the database fails.
pub async fn at_time(
    db: &Database,
    room: RoomNid,
    (ts_ms, direction): (i64, Direction),
    lens: &Lens,
    limit: i64,
) -> Result<Vec<EventNid>> {
    let wanted = usize::try_from(limit).unwrap_or(0);
    let mut last = Step { event: EventNid(0), origin_ts: ts_ms, pos: 0 };
    for size in [limit, WINDOW] {
        let steps = around(db, room, (ts_ms, direction), size).await?;
        let seen = steps.iter().filter(|step| lens.shows(step.pos)).take(wanted);
        let seen: Vec<EventNid> = seen.map(|step| step.event).collect();
        let is_all = (steps.len() as i64) < size;
        if seen.len() == wanted || is_all || (size == WINDOW && !seen.is_empty()) {
            return Ok(seen);
        }
        last = steps.last().copied().unwrap_or(last);
    }
    let stretches: Vec<(Position, Position)> = match direction {
        Direction::Forward => {
            let later = lens.stretches().filter(|(_, end)| *end > last.pos);
            later.map(|(first, end)| (first.max(last.pos + 1), end)).take(STRETCHES_MAX).collect()
        }
        Direction::Backward => {
            let earlier = lens.stretches().rev().filter(|(first, _)| *first < last.pos);
            earlier.map(|(first, end)| (first, end.min(last.pos - 1))).take(STRETCHES_MAX).collect()
        }
    };
    for stretch in stretches {
        let seen = within(db, room, stretch, (last.origin_ts, direction), limit).await?;
        if !seen.is_empty() {
            return Ok(seen);
        }
    }
    Ok(Vec::new())
}

/// Reads the events nearest to a time, seen or not.
async fn around(
    db: &Database,
    room: RoomNid,
    (ts_ms, direction): (i64, Direction),
    limit: i64,
) -> Result<Vec<Step>> {
    const AFTER: &str = "SELECT c.event_nid, c.origin_ts, COALESCE(s.pos, 0) FROM events c \
         LEFT JOIN event_stream s ON s.event_nid = c.event_nid \
         WHERE c.room_nid = $1 AND c.tl IS NOT NULL AND c.origin_ts >= $2 \
         ORDER BY c.origin_ts ASC, c.tl ASC LIMIT $3";
    const BEFORE: &str = "SELECT c.event_nid, c.origin_ts, COALESCE(s.pos, 0) FROM events c \
         LEFT JOIN event_stream s ON s.event_nid = c.event_nid \
         WHERE c.room_nid = $1 AND c.tl IS NOT NULL AND c.origin_ts <= $2 \
         ORDER BY c.origin_ts DESC, c.tl DESC LIMIT $3";
    let text = match direction {
        Direction::Forward => AFTER,
        Direction::Backward => BEFORE,
    };
    let rows: Vec<(i64, i64, i64)> =
        read!(db, |c| sql::query_as(text).bind(room.0).bind(ts_ms).bind(limit).fetch_all(c))?;
    let step = |(event, origin_ts, pos)| Step { event: EventNid(event), origin_ts, pos };
    Ok(rows.into_iter().map(step).collect())
}

/// Reads the first events of a stretch, in the direction, that are no nearer than a time.
async fn within(
    db: &Database,
    room: RoomNid,
    (first, end): (Position, Position),
    (ts_ms, direction): (i64, Direction),
    limit: i64,
) -> Result<Vec<EventNid>> {
    const AFTER: &str = "SELECT c.event_nid FROM (SELECT event_nid, pos FROM event_stream \
            WHERE room_nid = $1 AND pos >= $2 AND pos <= $3 ORDER BY pos ASC LIMIT $5) AS s \
         JOIN events c ON c.event_nid = s.event_nid \
         WHERE c.tl IS NOT NULL AND c.origin_ts >= $4 ORDER BY s.pos ASC LIMIT $6";
    const BEFORE: &str = "SELECT c.event_nid FROM (SELECT event_nid, pos FROM event_stream \
            WHERE room_nid = $1 AND pos >= $2 AND pos <= $3 ORDER BY pos DESC LIMIT $5) AS s \
         JOIN events c ON c.event_nid = s.event_nid \
         WHERE c.tl IS NOT NULL AND c.origin_ts <= $4 ORDER BY s.pos DESC LIMIT $6";
    let text = match direction {
        Direction::Forward => AFTER,
        Direction::Backward => BEFORE,
    };
    let rows: Vec<i64> = read!(db, |c| sql::query_scalar(text)
        .bind(room.0)
        .bind(first)
        .bind(end)
        .bind(ts_ms)
        .bind(WINDOW)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(EventNid).collect())
}
