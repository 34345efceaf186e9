//! Rooms of other servers that a user of this one is being let into, and the events of them that arrive before the
//! room's state: other servers send each event once, so it is put aside until the room is entered.
//!
//! Whoever puts events aside changes the rows of the attempts, and whoever ends an attempt deletes its row first: so
//! either the events are found by the one who ends it, or the attempt is found ended by the one who has them.

use colonnade_model::nid::RoomNid;

use crate::{Database, Tx, database::sql, error::Result};

/// How long an attempt counts, in milliseconds: one that lasts longer died with its process.
pub const LIFETIME_MS: i64 = 60 * 60 * 1_000;
/// Events of one server that are put aside of a room at most. Of more the newest stay, by which the others are found.
const OF_ORIGIN_MAX: i64 = 100;
/// Events that are put aside of a room at most, of whichever server.
const OF_ROOM_MAX: i64 = 1_000;

/// An attempt to enter a room.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// The room.
    pub room: RoomNid,
    /// A number that was drawn for it.
    pub number: i64,
}

/// An event that was put aside, as its server sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyEvent {
    /// The server that sent it.
    pub origin: String,
    /// Its id, by what is in it.
    pub event_id: String,
    /// All of it, as JSON.
    pub pdu: String,
}

/// What became of events that arrived early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutAside {
    /// They wait until the room is entered.
    Kept,
    /// Too many wait.
    Full,
    /// Nobody is entering the room.
    NotEntering,
}

/// Notes that an attempt begins.
///
/// # Errors
/// When the database fails.
pub async fn begin(db: &Database, attempt: Attempt, now_ms: i64) -> Result<()> {
    const BEGIN: &str = "INSERT INTO entering_rooms (room_nid, attempt, started_ts, held) \
         VALUES ($1, $2, $3, 0) ON CONFLICT (room_nid, attempt) DO NOTHING";
    db.write_twice(move |tx| {
        Box::pin(async move {
            let Attempt { room, number } = attempt;
            execute!(tx, sql::query(BEGIN).bind(room.0).bind(number).bind(now_ms)).map(drop)
        })
    })
    .await
}

/// Tells whether a room is being entered.
///
/// # Errors
/// When the database fails.
pub async fn is_entering(db: &Database, room: RoomNid, now_ms: i64) -> Result<bool> {
    const FIND: &str =
        "SELECT count(*) FROM entering_rooms WHERE room_nid = $1 AND started_ts > $2";
    let since = now_ms - LIFETIME_MS;
    let count: i64 = read!(db, |c| sql::query_scalar(FIND).bind(room.0).bind(since).fetch_one(c))?;
    Ok(count > 0)
}

/// Puts events of one server aside, in their order, if the room is being entered.
///
/// # Errors
/// When the database fails.
pub async fn put_aside(
    tx: &mut Tx,
    room: RoomNid,
    events: Vec<EarlyEvent>,
    now_ms: i64,
) -> Result<PutAside> {
    const ENTERING: &str = "UPDATE entering_rooms SET held = held + $3 \
         WHERE room_nid = $1 AND started_ts > $2";
    const COUNT: &str = "SELECT count(*) FROM early_events WHERE room_nid = $1";
    const LAST: &str =
        "SELECT coalesce(max(place), 0) FROM early_events WHERE room_nid = $1 AND origin = $2";
    const PUT: &str = "INSERT INTO early_events \
         (room_nid, origin, event_id, place, received_ts, pdu) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (room_nid, origin, event_id) DO NOTHING";
    const KEEP: &str =
        "DELETE FROM early_events WHERE room_nid = $1 AND origin = $2 AND place <= $3";
    let since = now_ms - LIFETIME_MS;
    let more = i64::try_from(events.len()).unwrap_or(i64::MAX);
    if execute!(tx, sql::query(ENTERING).bind(room.0).bind(since).bind(more))? == 0 {
        return Ok(PutAside::NotEntering);
    }
    let count: i64 = run!(tx, |c| sql::query_scalar(COUNT).bind(room.0).fetch_one(c))?;
    if count.saturating_add(more) > OF_ROOM_MAX {
        return Ok(PutAside::Full);
    }
    let Some(origin) = events.first().map(|event| event.origin.clone()) else {
        return Ok(PutAside::Kept);
    };
    let mut place: i64 =
        run!(tx, |c| sql::query_scalar(LAST).bind(room.0).bind(origin.clone()).fetch_one(c))?;
    for EarlyEvent { origin, event_id, pdu } in events {
        place += 1;
        execute!(
            tx,
            sql::query(PUT)
                .bind(room.0)
                .bind(origin)
                .bind(event_id)
                .bind(place)
                .bind(now_ms)
                .bind(pdu)
        )?;
    }
    execute!(tx, sql::query(KEEP).bind(room.0).bind(origin).bind(place - OF_ORIGIN_MAX))?;
    Ok(PutAside::Kept)
}

/// Ends an attempt, and takes out what was put aside meanwhile: each server's events in their order. Unless the room
/// was `entered`, they wait for other attempts as long as there are any.
///
/// # Errors
/// When the database fails.
pub async fn end(
    tx: &mut Tx,
    attempt: Attempt,
    entered: bool,
    now_ms: i64,
) -> Result<Vec<EarlyEvent>> {
    const END: &str = "DELETE FROM entering_rooms WHERE room_nid = $1 AND attempt = $2";
    const OTHERS: &str =
        "SELECT count(*) FROM entering_rooms WHERE room_nid = $1 AND started_ts > $2";
    const READ: &str = "SELECT origin, event_id, pdu FROM early_events WHERE room_nid = $1 \
         ORDER BY origin, place";
    const TAKE: &str = "DELETE FROM early_events WHERE room_nid = $1";
    let room = attempt.room.0;
    execute!(tx, sql::query(END).bind(room).bind(attempt.number))?;
    if !entered {
        let since = now_ms - LIFETIME_MS;
        let others: i64 =
            run!(tx, |c| sql::query_scalar(OTHERS).bind(room).bind(since).fetch_one(c))?;
        if others > 0 {
            return Ok(Vec::new());
        }
    }
    let rows: Vec<(String, String, String)> =
        run!(tx, |c| sql::query_as(READ).bind(room).fetch_all(c))?;
    if !rows.is_empty() {
        execute!(tx, sql::query(TAKE).bind(room))?;
    }
    let event = |(origin, event_id, pdu)| EarlyEvent { origin, event_id, pdu };
    Ok(rows.into_iter().map(event).collect())
}

/// Forgets attempts that died with their process, and what was put aside for them: at most `limit` events.
///
/// # Errors
/// When the database fails.
pub async fn prune(tx: &mut Tx, now_ms: i64, limit: i64) -> Result<u64> {
    const ATTEMPTS: &str = "DELETE FROM entering_rooms WHERE started_ts <= $1";
    const EVENTS: &str = "DELETE FROM early_events WHERE (room_nid, origin, event_id) IN \
         (SELECT room_nid, origin, event_id FROM early_events WHERE received_ts <= $1 LIMIT $2)";
    let before = now_ms - LIFETIME_MS;
    execute!(tx, sql::query(ATTEMPTS).bind(before))?;
    execute!(tx, sql::query(EVENTS).bind(before).bind(limit))
}
