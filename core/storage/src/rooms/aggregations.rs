//! Reads of what hangs on an event: edits, references, threads, and pages of related events. The
//! rows are written with the events themselves, by `persist`. What a viewer may not see, and what those
//! said whom he ignores, is left out by the statements: before anything is counted, and before the
//! newest is taken.

use std::collections::HashMap;

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::EventId,
    stream::Position,
};

use crate::{
    Database,
    database::{int_list, sql, text_list},
    error::Result,
};

mod nearest;

pub use nearest::at_time;

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

/// What of a room somebody sees: in which stretches of the stream, and without whom.
#[derive(Debug, Clone)]
pub struct Lens {
    /// Where it begins or ceases to show events, by turns, ascending: a position is seen if an odd
    /// number of them are not above it.
    edges: Vec<Position>,
    /// Whose messages it leaves out; their state events stay.
    ignored: Vec<UserNid>,
}

impl Lens {
    /// Shows the events in these stretches, both ends included, which ascend and do not touch.
    pub fn new(stretches: &[(Position, Position)], ignored: Vec<UserNid>) -> Self {
        let edges = stretches.iter().flat_map(|(first, last)| {
            let end = (*last < Position::MAX).then(|| last + 1);
            std::iter::once((*first).max(0)).chain(end)
        });
        Self { edges: edges.collect(), ignored }
    }

    /// Shows every event of whoever is not ignored.
    pub fn all_but(ignored: Vec<UserNid>) -> Self {
        Self { edges: vec![0], ignored }
    }

    /// Tells whether it shows everything.
    pub fn is_clear(&self) -> bool {
        self.edges == [0] && self.ignored.is_empty()
    }

    /// Tells whether it shows what is at a position.
    fn shows(&self, pos: Position) -> bool {
        self.edges.partition_point(|edge| *edge <= pos) % 2 == 1
    }

    /// The stretches it shows, both ends included, ascending.
    fn stretches(&self) -> impl DoubleEndedIterator<Item = (Position, Position)> {
        self.edges
            .chunks(2)
            .map(|edges| (edges[0], edges.get(1).map_or(Position::MAX, |end| end - 1)))
    }

    fn lists(&self) -> (String, String) {
        let ignored = int_list(self.ignored.iter().map(|user| user.0));
        (int_list(self.edges.iter().copied()), ignored)
    }
}

/// Expands to a statement that keeps of the events `c` with stream rows `s` those that the lens shows
/// whose lists are bound to the parameters 1 and 2, and that are neither redacted nor hidden.
macro_rules! through_lens {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " (SELECT count(*) FROM {INTS 1} AS edge WHERE edge.value <= COALESCE(s.pos, 0)) % 2 = 1 ",
            "AND (c.skey_nid IS NOT NULL OR c.sender_nid NOT IN {INTS 2}) ",
            "AND c.tl IS NOT NULL AND (c.flags & 8) = 0 ",
            $after
        )
    };
}

/// Returns those of the events that have an edit, a reference or a thread, whoever may see it.
///
/// # Errors
/// When the database fails.
pub async fn parents_among(db: &Database, events: &[EventNid]) -> Result<Vec<EventNid>> {
    const PARENTS: &str = "SELECT e.event_nid FROM events e WHERE e.event_nid IN {INTS 1} \
         AND EXISTS (SELECT 1 FROM relations r WHERE r.parent_nid = e.event_nid \
             AND r.rel_type IN ('m.replace', 'm.reference', 'm.thread'))";
    let list = nid_list(events);
    let rows: Vec<i64> =
        read_list!(db, PARENTS, |sql, c| sql::query_scalar(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(EventNid).collect())
}

/// Returns candidates for the edit in force of each of `parents`, the best first: by the same sender,
/// of the same type, neither of them a state event, the latest by `origin_server_ts`, then by event
/// id. Of each parent those after the first `skip`, and `take` of them. What they say is not looked
/// at, nor whether the parent is an edit itself.
///
/// Source: Matrix v1.19, client-server, "Event replacements".
///
/// # Errors
/// When the database fails.
pub async fn edits(
    db: &Database,
    parents: &[EventNid],
    lens: &Lens,
    (skip, take): (i64, i64),
) -> Result<Vec<(EventNid, EventNid)>> {
    const EDITS: &str = through_lens!(
        "SELECT parent_nid, child_nid FROM (\
            SELECT r.parent_nid, r.child_nid, ROW_NUMBER() OVER (\
                PARTITION BY r.parent_nid ORDER BY c.origin_ts DESC, c.event_id DESC) AS place \
            FROM relations r \
            JOIN events p ON p.event_nid = r.parent_nid \
            JOIN events c ON c.event_nid = r.child_nid \
            LEFT JOIN event_stream s ON s.event_nid = r.child_nid \
            WHERE r.parent_nid IN {INTS 3} AND r.rel_type = 'm.replace' \
              AND c.room_nid = p.room_nid AND c.sender_nid = p.sender_nid \
              AND c.type_nid = p.type_nid AND c.skey_nid IS NULL AND p.skey_nid IS NULL AND ",
        ") AS ranked WHERE place > $4 AND place <= $5 ORDER BY parent_nid, place"
    );
    let (edges, ignored) = lens.lists();
    let list = nid_list(parents);
    let rows: Vec<(i64, i64)> = read_list!(db, EDITS, |sql, c| sql::query_as(sql)
        .bind(edges)
        .bind(ignored)
        .bind(list)
        .bind(skip)
        .bind(skip + take)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(parent, child)| (EventNid(parent), EventNid(child))).collect())
}

/// Returns the ids of events that refer to `parents` by `m.reference`, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn references(
    db: &Database,
    parents: &[EventNid],
    lens: &Lens,
) -> Result<Vec<(EventNid, String)>> {
    const REFERENCES: &str = through_lens!(
        "SELECT parent_nid, event_id FROM (\
            SELECT r.parent_nid, c.event_id, r.tl, ROW_NUMBER() OVER (\
                PARTITION BY r.parent_nid ORDER BY r.tl) AS place \
            FROM relations r JOIN events c ON c.event_nid = r.child_nid \
            LEFT JOIN event_stream s ON s.event_nid = r.child_nid \
            WHERE r.parent_nid IN {INTS 3} AND r.rel_type = 'm.reference' AND ",
        ") AS ranked WHERE place <= $4 ORDER BY tl"
    );
    let (edges, ignored) = lens.lists();
    let list = nid_list(parents);
    let rows: Vec<(i64, String)> = read_list!(db, REFERENCES, |sql, c| sql::query_as(sql)
        .bind(edges)
        .bind(ignored)
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
    /// The user sent one of them; whether the root too is not looked at.
    pub participated: bool,
}

/// Returns the threads that start at any of `roots`, as `user` sees them through a lens; none of which
/// it shows nothing. Threads are counted as they grow; only who sees less than all of it costs a count.
///
/// # Errors
/// When the database fails.
pub async fn threads(
    db: &Database,
    roots: &[EventNid],
    user: UserNid,
    lens: &Lens,
) -> Result<Vec<ThreadSummary>> {
    const WHOLE: &str = "SELECT t.root_nid, t.latest_nid, t.count, \
            (SELECT count(*) FROM thread_participants p \
             WHERE p.root_nid = t.root_nid AND p.user_nid = $2) \
         FROM threads t JOIN events e ON e.event_nid = t.root_nid \
         WHERE t.root_nid IN {INTS 1} AND t.room_nid = e.room_nid AND t.count > 0";
    const SEEN: &str = through_lens!(
        "SELECT seen.root, latest.event_nid, seen.replies, seen.own FROM (\
            SELECT r.parent_nid AS root, max(s.pos) AS newest, count(*) AS replies, \
                count(CASE WHEN c.sender_nid = $4 THEN 1 END) AS own \
            FROM relations r JOIN events c ON c.event_nid = r.child_nid \
            JOIN event_stream s ON s.event_nid = r.child_nid \
            WHERE r.parent_nid IN {INTS 3} AND r.rel_type = 'm.thread' AND ",
        "GROUP BY r.parent_nid) AS seen JOIN event_stream latest ON latest.pos = seen.newest"
    );
    let list = nid_list(roots);
    let rows: Vec<(i64, i64, i64, i64)> = if lens.is_clear() {
        read_list!(db, WHOLE, |sql, c| sql::query_as(sql).bind(list).bind(user.0).fetch_all(c))?
    } else {
        let (edges, ignored) = lens.lists();
        read_list!(db, SEEN, |sql, c| sql::query_as(sql)
            .bind(edges)
            .bind(ignored)
            .bind(list)
            .bind(user.0)
            .fetch_all(c))?
    };
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

/// Which of a room's threads a page lists.
#[derive(Debug, Clone, Copy)]
pub struct Roots {
    /// The room.
    pub room: RoomNid,
    /// Only threads this user took part in.
    pub participant: Option<UserNid>,
    /// Only threads whose latest event is below this position.
    pub before: Option<Position>,
    /// How many at most.
    pub limit: i64,
}

/// Returns the roots of a room's threads, the most recently answered first, with the position of
/// their latest event, as somebody sees them through a lens. Whoever ignores the sender of a root sees
/// it nevertheless.
///
/// # Errors
/// When the database fails.
pub async fn thread_roots(
    db: &Database,
    wanted: Roots,
    lens: &Lens,
) -> Result<Vec<(EventNid, Position)>> {
    const WHOLE: &str = "SELECT t.root_nid, t.latest_pos FROM threads t \
         JOIN events e ON e.event_nid = t.root_nid \
         WHERE t.room_nid = $1 AND t.latest_pos < $2 AND t.count > 0 \
           AND ($3 = 0 OR e.sender_nid = $3 OR EXISTS (SELECT 1 FROM thread_participants p \
                WHERE p.root_nid = t.root_nid AND p.user_nid = $3)) \
         ORDER BY t.latest_pos DESC LIMIT $4";
    const SEEN: &str = through_lens!(
        "SELECT r.parent_nid, max(s.pos) AS newest FROM event_stream s \
         JOIN relations r ON r.child_nid = s.event_nid AND r.parent_nid = s.thread_nid \
             AND r.rel_type = 'm.thread' \
         JOIN events c ON c.event_nid = s.event_nid \
         JOIN events e ON e.event_nid = r.parent_nid \
         LEFT JOIN event_stream o ON o.event_nid = r.parent_nid \
         WHERE s.room_nid = $3 AND s.thread_nid IS NOT NULL \
           AND (SELECT count(*) FROM {INTS 1} AS edge WHERE edge.value <= COALESCE(o.pos, 0)) \
                % 2 = 1 AND ",
        "AND ($5 = 0 OR e.sender_nid = $5 OR EXISTS (SELECT 1 FROM thread_participants p \
                WHERE p.root_nid = r.parent_nid AND p.user_nid = $5)) \
         GROUP BY r.parent_nid HAVING max(s.pos) < $4 ORDER BY newest DESC LIMIT $6"
    );
    let (room, before) = (wanted.room.0, wanted.before.unwrap_or(i64::MAX));
    let participant = wanted.participant.map_or(0, |user| user.0);
    let rows: Vec<(i64, i64)> = if lens.is_clear() {
        read!(db, |c| sql::query_as(WHOLE)
            .bind(room)
            .bind(before)
            .bind(participant)
            .bind(wanted.limit)
            .fetch_all(c))?
    } else {
        let (edges, ignored) = lens.lists();
        read_list!(db, SEEN, |sql, c| sql::query_as(sql)
            .bind(edges)
            .bind(ignored)
            .bind(room)
            .bind(before)
            .bind(participant)
            .bind(wanted.limit)
            .fetch_all(c))?
    };
    Ok(rows.into_iter().map(|(root, pos)| (EventNid(root), pos)).collect())
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

/// Expands to the statement of [`related`] in one direction.
macro_rules! related_sql {
    ($order:literal) => {
        concat!(
            "WITH RECURSIVE reached (nid, depth, rel_type) AS (",
            "SELECT child_nid, 1, rel_type FROM relations WHERE parent_nid = $3 ",
            "UNION ",
            "SELECT r.child_nid, reached.depth + 1, r.rel_type ",
            "FROM relations r JOIN reached ON r.parent_nid = reached.nid ",
            "WHERE reached.depth < $5) ",
            "SELECT DISTINCT c.event_nid, c.tl FROM reached ",
            "JOIN events c ON c.event_nid = reached.nid ",
            "JOIN event_types y ON y.type_nid = c.type_nid ",
            "LEFT JOIN event_stream s ON s.event_nid = c.event_nid ",
            "WHERE c.room_nid = $4 AND c.tl IS NOT NULL AND (c.flags & 8) = 0 ",
            "AND (SELECT count(*) FROM {INTS 1} AS edge WHERE edge.value <= COALESCE(s.pos, 0)) % 2 = 1 ",
            "AND (c.skey_nid IS NOT NULL OR c.sender_nid NOT IN {INTS 2}) ",
            "AND (CAST($6 AS TEXT) IS NULL OR reached.rel_type = $6) AND (CAST($7 AS TEXT) IS NULL OR y.type = $7) ",
            "AND c.tl > $8 AND c.tl < $9 ORDER BY c.tl ",
            $order,
            " LIMIT $10"
        )
    };
}

/// Returns a page of related events with their timeline keys, in the order of the direction, as
/// somebody sees them through a lens.
///
/// # Errors
/// When the database fails.
pub async fn related(
    db: &Database,
    wanted: Related<'_>,
    lens: &Lens,
) -> Result<Vec<(EventNid, i64)>> {
    const BACKWARD: &str = related_sql!("DESC");
    const FORWARD: &str = related_sql!("ASC");
    // An open end is the end of all keys; which of from and to is the upper one depends on the way.
    let (text, low, high) = match wanted.direction {
        Direction::Backward => (BACKWARD, wanted.to, wanted.from),
        Direction::Forward => (FORWARD, wanted.from, wanted.to),
    };
    let (edges, ignored) = lens.lists();
    let rows: Vec<(i64, i64)> = read_list!(db, text, |sql, c| sql::query_as(sql)
        .bind(edges)
        .bind(ignored)
        .bind(wanted.parent.0)
        .bind(wanted.room.0)
        .bind(if wanted.recurse { 3i64 } else { 1 })
        .bind(wanted.rel_type.map(str::to_owned))
        .bind(wanted.event_type.map(str::to_owned))
        .bind(low.unwrap_or(i64::MIN))
        .bind(high.unwrap_or(i64::MAX))
        .bind(wanted.limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(child, timeline_key)| (EventNid(child), timeline_key)).collect())
}

fn nid_list(nids: &[EventNid]) -> String {
    int_list(nids.iter().map(|nid| nid.0))
}

/// Returns, of each of these events that was redacted in effect, the first event that did so.
///
/// # Errors
/// When the database fails.
pub async fn redactions_of(
    db: &Database,
    event_ids: &[&EventId],
) -> Result<HashMap<String, EventNid>> {
    const REDACTIONS: &str = "SELECT r.target_event_id, MIN(r.redaction_nid) FROM redactions r \
         JOIN events e ON e.event_nid = r.redaction_nid \
         WHERE r.target_event_id IN {TEXTS 1} AND e.tl IS NOT NULL GROUP BY r.target_event_id";
    let list = text_list(event_ids.iter().map(|id| id.as_str()));
    let rows: Vec<(String, i64)> =
        read_list!(db, REDACTIONS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(target, redaction)| (target, EventNid(redaction))).collect())
}

#[cfg(test)]
mod tests;
