//! Stored events: by id, along the timeline of a room, and along the stream. Rows are written by
//! [`crate::rooms::persist`].
//!
//! Two orders exist. The timeline key (`tl`) is the order in which a room is read and paginated; the
//! position `pos` is the order in which events became visible. Ranges are half open: above
//! `after`, up to and including `upto`.

use std::collections::HashMap;

use colonnade_model::{
    nid::{EventNid, RoomNid, StateKeyNid, StateNid, TypeNid, UserNid},
    ruma::{EventId, OwnedEventId},
    stream::Position,
};
use colonnade_rules::push::PushOutcome;

use crate::{
    Database,
    database::{int_list, sql, text_list},
    error::{Result, StorageError},
    rooms::varints,
};

/// Ids bound to one statement at most; longer lists are read in parts.
const LIST_MAX: usize = 5_000;

/// Bytes of events that a read of a range returns, and one event more at most: a page of sixteen of the
/// largest. Who wants more reads on.
pub const PIECE_BYTES_MAX: i64 = 1024 * 1024;
/// So few events are read without a look at how large they are: they are hardly more than that.
const FEW: i64 = 20;

/// What is known about an event beside its JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct EventFlags(pub i64);

impl EventFlags {
    /// Known, but not part of what the room's state was computed from.
    pub const OUTLIER: Self = Self(1);
    /// Not allowed by its auth events or by the state before it.
    pub const REJECTED: Self = Self(2);
    /// Allowed where it stands, but not by the current state: not shown to clients.
    pub const SOFT_FAILED: Self = Self(4);
    /// Redacted: the stored JSON is what redaction left.
    pub const REDACTED: Self = Self(8);
    /// Its server handed it over: this one tells the other servers of the room.
    pub const HANDED_OVER: Self = Self(16);
    /// Something that it follows was missing when it came: what is before it here may not be what was said
    /// before it. [`crate::rooms::gaps`] knows whether it is missing still.
    pub const AFTER_GAP: Self = Self(32);

    /// Tells whether all of `flags` are set.
    pub fn has(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Returns these flags and `flags`.
    #[must_use]
    pub fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its local id.
    pub nid: EventNid,
    /// Its room.
    pub room: RoomNid,
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its type.
    pub event_type: TypeNid,
    /// Who sent it.
    pub sender: UserNid,
    /// Its type and state key, if it is a state event.
    pub state_key_nid: Option<StateKeyNid>,
    /// Its depth, as its sender's server chose it.
    pub depth: i64,
    /// When its sender's server says it was sent, in milliseconds since 1970.
    pub origin_ts: i64,
    /// What else is known about it.
    pub flags: EventFlags,
    /// The state before it; `None` for an outlier.
    pub state_before: Option<StateNid>,
    /// The state after it; the one before it unless it is an accepted state event.
    pub state_after: Option<StateNid>,
    /// Its place in the timeline; `None` if it is not shown there.
    pub timeline_key: Option<i64>,
    /// Its position in the events stream; `None` if it never was live.
    pub pos: Option<Position>,
    /// The root of the thread it is in.
    pub thread: Option<EventNid>,
    /// What it means to users with the default push rules.
    pub outcome: PushOutcome,
    /// The canonical JSON in the federation format, without `unsigned`.
    pub json: Vec<u8>,
}

/// A row of the events stream.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StreamRow {
    /// The position.
    pub pos: Position,
    /// The room.
    #[sqlx(try_from = "i64")]
    pub room_nid: RoomNid,
    /// The event.
    #[sqlx(try_from = "i64")]
    pub event_nid: EventNid,
    /// Who sent it.
    #[sqlx(try_from = "i64")]
    pub sender_nid: UserNid,
    /// What it means to users with the default push rules.
    #[sqlx(rename = "action", try_from = "i64")]
    pub outcome: PushOutcome,
    /// Cumulative notifying events of the room, this one included.
    pub notif_seq: i64,
    /// Cumulative notifying events outside threads.
    #[sqlx(rename = "main_seq")]
    pub unthreaded_seq: i64,
    /// Cumulative highlights of the room.
    #[sqlx(rename = "hl_seq")]
    pub highlight_seq: i64,
    /// The root of the thread the event is in.
    pub thread_nid: Option<i64>,
    /// Cumulative notifying events of that thread.
    pub thread_seq: i64,
}

/// A range of a room, and how to read it.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// Only above this.
    pub after: i64,
    /// Only up to this, inclusive.
    pub upto: i64,
    /// From the newest down instead of from the oldest up.
    pub newest_first: bool,
    /// At most so many.
    pub limit: i64,
}

/// Expands to a read of events with their JSON and stream row, with this ending.
macro_rules! events {
    ($ending:literal) => {
        concat!(
            "SELECT e.event_nid, e.room_nid, e.event_id, e.type_nid, e.sender_nid, e.skey_nid, ",
            "e.depth, e.origin_ts, e.flags, e.state_before, e.state_after, e.tl, s.pos, ",
            "s.thread_nid, s.action, j.codec, j.body FROM events e ",
            "JOIN event_json j ON j.event_nid = e.event_nid ",
            "LEFT JOIN event_stream s ON s.event_nid = e.event_nid ",
            $ending
        )
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    event_nid: i64,
    room_nid: i64,
    event_id: String,
    type_nid: i64,
    sender_nid: i64,
    skey_nid: Option<i64>,
    depth: i64,
    origin_ts: i64,
    flags: i64,
    state_before: Option<i64>,
    state_after: Option<i64>,
    #[sqlx(rename = "tl")]
    timeline_key: Option<i64>,
    pos: Option<i64>,
    thread_nid: Option<i64>,
    action: Option<i64>,
    codec: i64,
    body: Vec<u8>,
}

impl Row {
    fn event(self) -> Result<StoredEvent> {
        if self.codec != 0 {
            let why = format!("unknown codec {}", self.codec);
            return Err(StorageError::corrupt("event_json", "codec", self.event_nid, why));
        }
        Ok(StoredEvent {
            nid: EventNid(self.event_nid),
            room: RoomNid(self.room_nid),
            event_id: parse_id(self.event_nid, &self.event_id)?,
            event_type: TypeNid(self.type_nid),
            sender: UserNid(self.sender_nid),
            state_key_nid: self.skey_nid.map(StateKeyNid),
            depth: self.depth,
            origin_ts: self.origin_ts,
            flags: EventFlags(self.flags),
            state_before: self.state_before.map(StateNid),
            state_after: self.state_after.map(StateNid),
            timeline_key: self.timeline_key,
            pos: self.pos,
            thread: self.thread_nid.map(EventNid),
            outcome: self.action.unwrap_or(0).into(),
            json: self.body,
        })
    }
}

fn parse_id(nid: i64, text: &str) -> Result<OwnedEventId> {
    EventId::parse(text).map_err(|why| StorageError::corrupt("events", "event_id", nid, why))
}

/// Returns an event.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, nid: EventNid) -> Result<Option<StoredEvent>> {
    const GET: &str = events!("WHERE e.event_nid = $1");
    let row: Option<Row> = read!(db, |c| sql::query_as(GET).bind(nid.0).fetch_optional(c))?;
    row.map(Row::event).transpose()
}

/// Returns those of the events that exist, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn many(db: &Database, nids: &[EventNid]) -> Result<Vec<StoredEvent>> {
    const MANY: &str = events!("WHERE e.event_nid IN {INTS 1}");
    let mut found = Vec::with_capacity(nids.len());
    for part in nids.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|nid| nid.0));
        let rows: Vec<Row> =
            read_list!(db, MANY, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for row in rows {
            found.push(row.event()?);
        }
    }
    Ok(found)
}

/// Returns the event with an id.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, event_id: &EventId) -> Result<Option<StoredEvent>> {
    const FIND: &str = events!("WHERE e.event_id = $1");
    let event_id = event_id.to_string();
    let row: Option<Row> = read!(db, |c| sql::query_as(FIND).bind(event_id).fetch_optional(c))?;
    row.map(Row::event).transpose()
}

/// Returns the local ids of those of the events that exist.
///
/// # Errors
/// When the database fails.
pub async fn find_nids(
    db: &Database,
    event_ids: &[OwnedEventId],
) -> Result<HashMap<OwnedEventId, EventNid>> {
    const FIND: &str = "SELECT event_nid, event_id FROM events WHERE event_id IN {TEXTS 1}";
    let mut found = HashMap::with_capacity(event_ids.len());
    for part in event_ids.chunks(LIST_MAX) {
        let list = text_list(part);
        let rows: Vec<(i64, String)> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for (nid, text) in rows {
            found.insert(parse_id(nid, &text)?, EventNid(nid));
        }
    }
    Ok(found)
}

/// Returns the ids of those of the events that exist, by local id.
///
/// # Errors
/// When the database fails.
pub async fn ids(db: &Database, nids: &[EventNid]) -> Result<HashMap<EventNid, OwnedEventId>> {
    const IDS: &str = "SELECT event_nid, event_id FROM events WHERE event_nid IN {INTS 1}";
    let mut found = HashMap::with_capacity(nids.len());
    for part in nids.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|nid| nid.0));
        let rows: Vec<(i64, String)> =
            read_list!(db, IDS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for (nid, text) in rows {
            found.insert(EventNid(nid), parse_id(nid, &text)?);
        }
    }
    Ok(found)
}

/// Returns the local ids of the events that each of some events says allow it.
///
/// # Errors
/// When the database fails or a row is damaged.
pub async fn auths_of(
    db: &Database,
    nids: &[EventNid],
) -> Result<HashMap<EventNid, Vec<EventNid>>> {
    const AUTHS: &str = "SELECT event_nid, auths FROM events WHERE event_nid IN {INTS 1}";
    let mut found = HashMap::with_capacity(nids.len());
    for part in nids.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|nid| nid.0));
        let rows: Vec<(i64, Vec<u8>)> =
            read_list!(db, AUTHS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for (nid, bytes) in rows {
            let auths = varints::decode(&bytes).ok_or_else(|| {
                StorageError::corrupt("events", "auths", nid, "not a list of ids")
            })?;
            found.insert(EventNid(nid), auths.into_iter().map(EventNid).collect());
        }
    }
    Ok(found)
}

/// Returns the local ids of the events an event follows.
///
/// # Errors
/// When the database fails.
pub async fn prevs(db: &Database, nid: EventNid) -> Result<Vec<EventNid>> {
    const PREVS: &str = "SELECT prevs FROM events WHERE event_nid = $1";
    let row: Option<Vec<u8>> =
        read!(db, |c| sql::query_scalar(PREVS).bind(nid.0).fetch_optional(c))?;
    let Some(bytes) = row else { return Ok(Vec::new()) };
    let nids = varints::decode(&bytes)
        .ok_or_else(|| StorageError::corrupt("events", "prevs", nid, "not a list of ids"))?;
    Ok(nids.into_iter().map(EventNid).collect())
}

/// Expands to a read of the first events of a range that are not many bytes together.
macro_rules! piece {
    ($place:literal, $range:literal, $order:literal) => {
        concat!(
            "WITH picked AS (SELECT e.event_nid AS nid, ",
            $place,
            " AS place, length(j.body) AS bytes FROM events e ",
            "JOIN event_json j ON j.event_nid = e.event_nid ",
            "LEFT JOIN event_stream s ON s.event_nid = e.event_nid WHERE ",
            $range,
            " ORDER BY ",
            $place,
            $order,
            " LIMIT $4), measured AS (SELECT nid, place, SUM(bytes) OVER (ORDER BY place",
            $order,
            ") - bytes AS ahead FROM picked) ",
            "SELECT e.event_nid, e.room_nid, e.event_id, e.type_nid, e.sender_nid, e.skey_nid, ",
            "e.depth, e.origin_ts, e.flags, e.state_before, e.state_after, e.tl, s.pos, ",
            "s.thread_nid, s.action, j.codec, j.body FROM measured m ",
            "JOIN events e ON e.event_nid = m.nid ",
            "JOIN event_json j ON j.event_nid = m.nid ",
            "LEFT JOIN event_stream s ON s.event_nid = m.nid ",
            "WHERE m.ahead < $5 ORDER BY m.place",
            $order
        )
    };
}

/// The first events of a range.
#[derive(Debug)]
pub struct Piece {
    /// In the order asked for.
    pub events: Vec<StoredEvent>,
    /// There are no more in the range.
    pub is_last: bool,
}

/// Reads a room's timeline between two timeline keys: as many events as asked for, but not many more bytes
/// of them than [`PIECE_BYTES_MAX`].
///
/// # Errors
/// When the database fails.
pub async fn timeline(db: &Database, room: RoomNid, range: Range) -> Result<Piece> {
    const FEW_UP: &str =
        events!("WHERE e.room_nid = $1 AND e.tl > $2 AND e.tl <= $3 ORDER BY e.tl LIMIT $4");
    const FEW_DOWN: &str =
        events!("WHERE e.room_nid = $1 AND e.tl > $2 AND e.tl <= $3 ORDER BY e.tl DESC LIMIT $4");
    const UP: &str = piece!("e.tl", "e.room_nid = $1 AND e.tl > $2 AND e.tl <= $3", " ASC");
    const DOWN: &str = piece!("e.tl", "e.room_nid = $1 AND e.tl > $2 AND e.tl <= $3", " DESC");
    piece_of(db, [FEW_UP, FEW_DOWN, UP, DOWN], room, range).await
}

/// Reads a room's live events between two positions, as [`timeline`] does.
///
/// # Errors
/// When the database fails.
pub async fn live(db: &Database, room: RoomNid, range: Range) -> Result<Piece> {
    const FEW_UP: &str =
        events!("WHERE s.room_nid = $1 AND s.pos > $2 AND s.pos <= $3 ORDER BY s.pos LIMIT $4");
    const FEW_DOWN: &str = events!(
        "WHERE s.room_nid = $1 AND s.pos > $2 AND s.pos <= $3 ORDER BY s.pos DESC LIMIT $4"
    );
    const UP: &str = piece!("s.pos", "s.room_nid = $1 AND s.pos > $2 AND s.pos <= $3", " ASC");
    const DOWN: &str = piece!("s.pos", "s.room_nid = $1 AND s.pos > $2 AND s.pos <= $3", " DESC");
    piece_of(db, [FEW_UP, FEW_DOWN, UP, DOWN], room, range).await
}

/// Runs the statement that fits the range: for few events upwards, downwards, for many upwards, downwards.
async fn piece_of(
    db: &Database,
    [few_up, few_down, up, down]: [&'static str; 4],
    room: RoomNid,
    range: Range,
) -> Result<Piece> {
    let is_measured = range.limit > FEW;
    let statement = match (is_measured, range.newest_first) {
        (false, false) => few_up,
        (false, true) => few_down,
        (true, false) => up,
        (true, true) => down,
    };
    let rows: Vec<Row> = read!(db, |c| {
        let query = sql::query_as(statement).bind(room.0).bind(range.after).bind(range.upto);
        let query = query.bind(range.limit);
        let query = if is_measured { query.bind(PIECE_BYTES_MAX) } else { query };
        query.fetch_all(c)
    })?;
    let events = rows.into_iter().map(Row::event).collect::<Result<Vec<_>>>()?;
    let bytes: usize = events.iter().map(|event| event.json.len()).sum();
    let is_full = is_measured && bytes as i64 >= PIECE_BYTES_MAX;
    let is_last = !is_full && (events.len() as i64) < range.limit;
    Ok(Piece { events, is_last })
}

/// Returns how many bytes the JSON has of those of the events that exist.
///
/// # Errors
/// When the database fails.
pub async fn sizes(db: &Database, nids: &[EventNid]) -> Result<HashMap<EventNid, i64>> {
    const SIZES: &str = "SELECT event_nid, CAST(length(body) AS BIGINT) FROM event_json \
         WHERE event_nid IN {INTS 1}";
    let mut found = HashMap::with_capacity(nids.len());
    for part in nids.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|nid| nid.0));
        let rows: Vec<(i64, i64)> =
            read_list!(db, SIZES, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        found.extend(rows.into_iter().map(|(nid, bytes)| (EventNid(nid), bytes)));
    }
    Ok(found)
}

/// Expands to a read of stream rows with this ending.
macro_rules! stream_rows {
    ($ending:literal) => {
        concat!(
            "SELECT pos, room_nid, event_nid, sender_nid, action, notif_seq, main_seq, hl_seq, ",
            "thread_nid, thread_seq FROM event_stream WHERE ",
            $ending
        )
    };
}

/// Reads the stream of all rooms above `after` and up to `upto`, oldest first: for consumers.
///
/// # Errors
/// When the database fails.
pub async fn stream(
    db: &Database,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<StreamRow>> {
    const STREAM: &str = stream_rows!("pos > $1 AND pos <= $2 ORDER BY pos LIMIT $3");
    read!(db, |c| sql::query_as(STREAM).bind(after).bind(upto).bind(limit).fetch_all(c))
}

/// Reads the stream row of a live event.
///
/// # Errors
/// When the database fails.
pub async fn stream_row(db: &Database, event: EventNid) -> Result<Option<StreamRow>> {
    const ROW: &str = stream_rows!("event_nid = $1");
    read!(db, |c| sql::query_as(ROW).bind(event.0).fetch_optional(c))
}

/// Reads the latest stream row of a room up to a position.
///
/// # Errors
/// When the database fails.
pub async fn stream_row_at(
    db: &Database,
    room: RoomNid,
    upto: Position,
) -> Result<Option<StreamRow>> {
    const ROW: &str = stream_rows!("room_nid = $1 AND pos <= $2 ORDER BY pos DESC LIMIT 1");
    read!(db, |c| sql::query_as(ROW).bind(room.0).bind(upto).fetch_optional(c))
}
