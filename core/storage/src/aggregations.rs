//! Reads of what hangs on an event: edits, references, threads, and pages of related events. The
//! rows are written with the events themselves, by `events`.

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::EventId,
};

use crate::{Database, database::int_list, error::Result};

/// References listed with an event at most; the rest is reached through `/relations`.
const REFERENCES_MAX: i64 = 50;

/// The direction of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From newer to older.
    Backward,
    /// From older to newer.
    Forward,
}

/// Returns the edit in force of each of `parents` that has one: by the same sender, of the same
/// type, neither of them a state event, the latest by `origin_server_ts`, then by event id.
///
/// Source: Matrix v1.19, client-server, "Event replacements".
///
/// # Errors
/// When the database fails.
pub async fn edits(db: &Database, parents: &[EventNid]) -> Result<Vec<(EventNid, EventNid)>> {
    const EDITS: &str = "SELECT parent_nid, child_nid FROM (\
            SELECT r.parent_nid, r.child_nid, ROW_NUMBER() OVER (\
                PARTITION BY r.parent_nid ORDER BY c.origin_ts DESC, c.event_id DESC) AS place \
            FROM relations r \
            JOIN events p ON p.event_nid = r.parent_nid \
            JOIN events c ON c.event_nid = r.child_nid \
            WHERE r.parent_nid IN {INTS 1} AND r.rel_type = 'm.replace' \
              AND c.sender_nid = p.sender_nid AND c.type_nid = p.type_nid \
              AND c.skey_nid IS NULL AND p.skey_nid IS NULL \
              AND (c.flags & 8) = 0 AND c.tl IS NOT NULL) AS ranked \
         WHERE place = 1";
    let list = nid_list(parents);
    let rows: Vec<(i64, i64)> =
        read_list!(db, EDITS, |sql, c| sqlx::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(parent, child)| (EventNid(parent), EventNid(child))).collect())
}

/// Returns the ids of events that refer to `parents` by `m.reference`, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn references(db: &Database, parents: &[EventNid]) -> Result<Vec<(EventNid, String)>> {
    const REFERENCES: &str = "SELECT parent_nid, event_id FROM (\
            SELECT r.parent_nid, c.event_id, r.tl, ROW_NUMBER() OVER (\
                PARTITION BY r.parent_nid ORDER BY r.tl) AS place \
            FROM relations r JOIN events c ON c.event_nid = r.child_nid \
            WHERE r.parent_nid IN {INTS 1} AND r.rel_type = 'm.reference' \
              AND (c.flags & 8) = 0 AND c.tl IS NOT NULL) AS ranked \
         WHERE place <= $2 ORDER BY tl";
    let list = nid_list(parents);
    let rows: Vec<(i64, String)> = read_list!(db, REFERENCES, |sql, c| sqlx::query_as(sql)
        .bind(list)
        .bind(REFERENCES_MAX)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(parent, id)| (EventNid(parent), id)).collect())
}

/// A thread as its root shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadSummary {
    /// The first event.
    pub root: EventNid,
    /// The newest event in the thread.
    pub latest: EventNid,
    /// Events in the thread, without the root.
    pub count: i64,
    /// The user sent one of them, or the root.
    pub participated: bool,
}

/// Returns the threads that start at any of `roots`, as `user` sees them.
///
/// # Errors
/// When the database fails.
pub async fn threads(
    db: &Database,
    roots: &[EventNid],
    user: UserNid,
) -> Result<Vec<ThreadSummary>> {
    const THREADS: &str = "SELECT t.root_nid, t.latest_nid, t.count, \
            (SELECT count(*) FROM thread_participants p \
             WHERE p.root_nid = t.root_nid AND p.user_nid = $2) \
         FROM threads t JOIN events e ON e.event_nid = t.root_nid \
         WHERE t.root_nid IN {INTS 1} AND t.room_nid = e.room_nid AND t.count > 0";
    let list = nid_list(roots);
    let rows: Vec<(i64, i64, i64, i64)> =
        read_list!(db, THREADS, |sql, c| sqlx::query_as(sql).bind(list).bind(user.0).fetch_all(c))?;
    Ok(rows.into_iter().map(summary).collect())
}

fn summary((root, latest, count, participated): (i64, i64, i64, i64)) -> ThreadSummary {
    ThreadSummary {
        root: EventNid(root),
        latest: EventNid(latest),
        count,
        participated: participated > 0,
    }
}

/// Returns the roots of a room's threads, the most recently answered first, with the position of
/// their latest event; `before` continues an earlier page.
///
/// # Errors
/// When the database fails.
pub async fn thread_roots(
    db: &Database,
    room: RoomNid,
    participant: Option<UserNid>,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<(EventNid, i64)>> {
    const ROOTS: &str = "SELECT t.root_nid, t.latest_pos FROM threads t \
         JOIN events e ON e.event_nid = t.root_nid \
         WHERE t.room_nid = $1 AND t.latest_pos < $2 AND t.count > 0 \
           AND ($3 = 0 OR e.sender_nid = $3 OR EXISTS (SELECT 1 FROM thread_participants p \
                WHERE p.root_nid = t.root_nid AND p.user_nid = $3)) \
         ORDER BY t.latest_pos DESC LIMIT $4";
    let rows: Vec<(i64, i64)> = read!(db, |c| sqlx::query_as(ROOTS)
        .bind(room.0)
        .bind(before.unwrap_or(i64::MAX))
        .bind(participant.map_or(0, |user| user.0))
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(root, pos)| (EventNid(root), pos)).collect())
}

/// The statement of [`related`] in one direction.
macro_rules! related_sql {
    ($order:literal) => {
        concat!(
            "WITH RECURSIVE reached (nid, depth, rel_type) AS (",
            "SELECT child_nid, 1, rel_type FROM relations WHERE parent_nid = $1 ",
            "UNION ",
            "SELECT r.child_nid, reached.depth + 1, r.rel_type ",
            "FROM relations r JOIN reached ON r.parent_nid = reached.nid ",
            "WHERE reached.depth < $3) ",
            "SELECT DISTINCT e.event_nid, e.tl FROM reached ",
            "JOIN events e ON e.event_nid = reached.nid ",
            "JOIN event_types y ON y.type_nid = e.type_nid ",
            "WHERE e.room_nid = $2 AND e.tl IS NOT NULL AND (e.flags & 8) = 0 ",
            "AND (CAST($4 AS TEXT) IS NULL OR reached.rel_type = $4) AND (CAST($5 AS TEXT) IS NULL OR y.type = $5) ",
            "AND e.tl > $6 AND e.tl < $7 ORDER BY e.tl ",
            $order,
            " LIMIT $8"
        )
    };
}

/// Which related events a page lists.
#[derive(Debug, Clone, Copy)]
pub struct Related<'a> {
    /// The room of the event they relate to.
    pub room: RoomNid,
    /// The event they relate to.
    pub parent: EventNid,
    /// Only this relation type.
    pub rel_type: Option<&'a str>,
    /// Only this event type.
    pub event_type: Option<&'a str>,
    /// Also what relates to what relates to it, three steps deep.
    pub recurse: bool,
    /// Where the page starts (not included), as a timeline key.
    pub from: Option<i64>,
    /// Where it ends at the latest (not included).
    pub to: Option<i64>,
    /// Which way it goes.
    pub direction: Direction,
    /// How many events it has at most.
    pub limit: i64,
}

/// Returns a page of related events with their timeline keys, in the order of the direction.
///
/// # Errors
/// When the database fails.
pub async fn related(db: &Database, wanted: Related<'_>) -> Result<Vec<(EventNid, i64)>> {
    const BACKWARD: &str = related_sql!("DESC");
    const FORWARD: &str = related_sql!("ASC");
    // An open end is the end of all keys; which of from and to is the upper one depends on the way.
    let (sql, low, high) = match wanted.direction {
        Direction::Backward => (BACKWARD, wanted.to, wanted.from),
        Direction::Forward => (FORWARD, wanted.from, wanted.to),
    };
    let rows: Vec<(i64, i64)> = read!(db, |c| sqlx::query_as(sql)
        .bind(wanted.parent.0)
        .bind(wanted.room.0)
        .bind(if wanted.recurse { 3i64 } else { 1 })
        .bind(wanted.rel_type.map(str::to_owned))
        .bind(wanted.event_type.map(str::to_owned))
        .bind(low.unwrap_or(i64::MIN))
        .bind(high.unwrap_or(i64::MAX))
        .bind(wanted.limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(child, tl)| (EventNid(child), tl)).collect())
}

/// Returns the event of a room's timeline nearest to a time, at or after it (forward) or at or
/// before it (backward).
///
/// # Errors
/// When the database fails.
pub async fn at_time(
    db: &Database,
    room: RoomNid,
    ts_ms: i64,
    direction: Direction,
) -> Result<Option<EventNid>> {
    const AFTER: &str = "SELECT event_nid FROM events WHERE room_nid = $1 AND tl IS NOT NULL \
         AND origin_ts >= $2 ORDER BY origin_ts ASC, tl ASC LIMIT 1";
    const BEFORE: &str = "SELECT event_nid FROM events WHERE room_nid = $1 AND tl IS NOT NULL \
         AND origin_ts <= $2 ORDER BY origin_ts DESC, tl DESC LIMIT 1";
    let sql = match direction {
        Direction::Forward => AFTER,
        Direction::Backward => BEFORE,
    };
    let found: Option<i64> =
        read!(db, |c| sqlx::query_scalar(sql).bind(room.0).bind(ts_ms).fetch_optional(c))?;
    Ok(found.map(EventNid))
}

fn nid_list(nids: &[EventNid]) -> String {
    int_list(nids.iter().map(|nid| nid.0))
}

/// Returns the first event that redacted `event_id` in effect.
///
/// # Errors
/// When the database fails.
pub async fn redaction_of(db: &Database, event_id: &EventId) -> Result<Option<EventNid>> {
    const REDACTION: &str = "SELECT r.redaction_nid FROM redactions r \
         JOIN events e ON e.event_nid = r.redaction_nid \
         WHERE r.target_event_id = $1 AND e.tl IS NOT NULL ORDER BY r.redaction_nid LIMIT 1";
    let target = event_id.to_string();
    let found: Option<i64> =
        read!(db, |c| sqlx::query_scalar(REDACTION).bind(target).fetch_optional(c))?;
    Ok(found.map(EventNid))
}
