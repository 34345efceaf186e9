//! Rooms and their heads: what a room is, and where it stands. Never decides anything; rows are
//! written by [`crate::rooms::persist`].

use colonnade_model::{
    nid::{EventNid, RoomNid, StateNid},
    ruma::{OwnedRoomId, RoomId, RoomVersionId},
    stream::Position,
};

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::{Result, StorageError},
    rooms::varints,
};

/// A room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRow {
    /// Its local id.
    pub nid: RoomNid,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// When it became known here, in milliseconds since 1970.
    pub created_ts: i64,
}

/// Where a room stands: the row that every accepted event moves on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The room.
    pub room: RoomNid,
    /// The position of its latest live event.
    pub last_pos: Position,
    /// The timeline key of its latest live event.
    pub last_timeline_key: i64,
    /// Its current state.
    pub state: StateNid,
    /// Its forward extremities.
    pub extremities: Vec<EventNid>,
    /// The greatest depth among them.
    pub depth: i64,
    /// Joined members.
    pub joined: i64,
    /// Invited members.
    pub invited: i64,
    /// Cumulative notifying events, by the default push rules.
    pub notif_seq: i64,
    /// Cumulative notifying events outside threads.
    pub unthreaded_seq: i64,
    /// Cumulative highlights of everybody (`@room`, tombstones).
    pub highlight_seq: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    room_nid: i64,
    room_id: String,
    version: String,
    created_ts: i64,
}

impl Row {
    fn room(self) -> Result<RoomRow> {
        let corrupt =
            |column, why: String| StorageError::corrupt("rooms", column, self.room_nid, why);
        Ok(RoomRow {
            nid: RoomNid(self.room_nid),
            room_id: RoomId::parse(&self.room_id)
                .map_err(|error| corrupt("room_id", error.to_string()))?,
            version: RoomVersionId::try_from(self.version.as_str())
                .map_err(|error| corrupt("version", error.to_string()))?,
            created_ts: self.created_ts,
        })
    }
}

/// Finds a room by its id, once it stands somewhere: of a room that is only being fetched from another
/// server there is nothing to see.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, room_id: &RoomId) -> Result<Option<RoomRow>> {
    const FIND: &str = "SELECT room_nid, room_id, version, created_ts FROM rooms r \
         WHERE room_id = $1 \
         AND EXISTS (SELECT 1 FROM room_heads h WHERE h.room_nid = r.room_nid)";
    let room_id = room_id.to_string();
    let row: Option<Row> = read!(db, |c| sql::query_as(FIND).bind(room_id).fetch_optional(c))?;
    row.map(Row::room).transpose()
}

/// Finds a room by its id, also one that is only being fetched from another server.
///
/// # Errors
/// When the database fails.
pub async fn find_row(db: &Database, room_id: &RoomId) -> Result<Option<RoomRow>> {
    const FIND: &str =
        "SELECT room_nid, room_id, version, created_ts FROM rooms WHERE room_id = $1";
    let room_id = room_id.to_string();
    let row: Option<Row> = read!(db, |c| sql::query_as(FIND).bind(room_id).fetch_optional(c))?;
    row.map(Row::room).transpose()
}

/// Makes a row for a room of another server, unless there is one.
///
/// # Errors
/// When the database fails.
pub async fn make_row(db: &Database, new: RoomRow, slot: u16) -> Result<()> {
    const MAKE: &str = "INSERT INTO rooms (room_nid, room_id, version, slot, created_ts) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (room_id) DO NOTHING";
    let RoomRow { nid, room_id, version, created_ts } = new;
    let (room_id, version) = (room_id.to_string(), version.to_string());
    db.write_twice(move |tx| {
        Box::pin(async move {
            execute!(
                tx,
                sql::query(MAKE)
                    .bind(nid.0)
                    .bind(room_id)
                    .bind(version)
                    .bind(i64::from(slot))
                    .bind(created_ts)
            )
            .map(drop)
        })
    })
    .await
}

/// Finds a room by its local id.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, room: RoomNid) -> Result<Option<RoomRow>> {
    const GET: &str =
        "SELECT room_nid, room_id, version, created_ts FROM rooms WHERE room_nid = $1";
    let row: Option<Row> = read!(db, |c| sql::query_as(GET).bind(room.0).fetch_optional(c))?;
    row.map(Row::room).transpose()
}

/// Returns the rooms among these that exist, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn many(db: &Database, rooms: &[RoomNid]) -> Result<Vec<RoomRow>> {
    const MANY: &str =
        "SELECT room_nid, room_id, version, created_ts FROM rooms WHERE room_nid IN {INTS 1}";
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<Row> = read_list!(db, MANY, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    rows.into_iter().map(Row::room).collect()
}

/// Returns how many are joined to rooms, and how many are invited.
///
/// # Errors
/// When the database fails.
pub async fn counts(db: &Database, rooms: &[RoomNid]) -> Result<Vec<(RoomNid, i64, i64)>> {
    const COUNTS: &str =
        "SELECT room_nid, joined, invited FROM room_heads WHERE room_nid IN {INTS 1}";
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<(i64, i64, i64)> =
        read_list!(db, COUNTS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(room, joined, invited)| (RoomNid(room), joined, invited)).collect())
}

#[derive(sqlx::FromRow)]
struct HeadRow {
    room_nid: i64,
    last_pos: i64,
    #[sqlx(rename = "last_tl")]
    last_timeline_key: i64,
    state_nid: i64,
    fwd: Vec<u8>,
    depth: i64,
    joined: i64,
    invited: i64,
    notif_seq: i64,
    #[sqlx(rename = "main_seq")]
    unthreaded_seq: i64,
    #[sqlx(rename = "hl_seq")]
    highlight_seq: i64,
}

impl HeadRow {
    fn head(self) -> Result<Head> {
        let extremities = varints::decode(&self.fwd).ok_or_else(|| {
            StorageError::corrupt("room_heads", "fwd", self.room_nid, "not a list of ids")
        })?;
        Ok(Head {
            room: RoomNid(self.room_nid),
            last_pos: self.last_pos,
            last_timeline_key: self.last_timeline_key,
            state: StateNid(self.state_nid),
            extremities: extremities.into_iter().map(EventNid).collect(),
            depth: self.depth,
            joined: self.joined,
            invited: self.invited,
            notif_seq: self.notif_seq,
            unthreaded_seq: self.unthreaded_seq,
            highlight_seq: self.highlight_seq,
        })
    }
}

/// Expands to a read of heads with this condition.
macro_rules! heads {
    ($condition:literal) => {
        concat!(
            "SELECT room_nid, last_pos, last_tl, state_nid, fwd, depth, joined, invited, ",
            "notif_seq, main_seq, hl_seq FROM room_heads WHERE ",
            $condition
        )
    };
}

/// Returns where a room stands; `None` before its first event.
///
/// # Errors
/// When the database fails.
pub async fn head(db: &Database, room: RoomNid) -> Result<Option<Head>> {
    const HEAD: &str = heads!("room_nid = $1");
    let row: Option<HeadRow> = read!(db, |c| sql::query_as(HEAD).bind(room.0).fetch_optional(c))?;
    row.map(HeadRow::head).transpose()
}

/// Returns where many rooms stand, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn heads(db: &Database, rooms: &[RoomNid]) -> Result<Vec<Head>> {
    const HEADS: &str = heads!("room_nid IN {INTS 1}");
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<HeadRow> =
        read_list!(db, HEADS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    rows.into_iter().map(HeadRow::head).collect()
}

/// Returns where up to `limit` rooms stand, those after `after` in the order of their local ids:
/// for loading all of them page by page.
///
/// # Errors
/// When the database fails.
pub async fn heads_page(db: &Database, after: RoomNid, limit: i64) -> Result<Vec<Head>> {
    const PAGE: &str = heads!("room_nid > $1 ORDER BY room_nid LIMIT $2");
    let rows: Vec<HeadRow> =
        read!(db, |c| sql::query_as(PAGE).bind(after.0).bind(limit).fetch_all(c))?;
    rows.into_iter().map(HeadRow::head).collect()
}

/// Notes which room replaces another that had this tombstone before, `None` for no tombstone.
///
/// # Errors
/// `Conflict` when another room does.
pub(crate) async fn insert_successor(
    tx: &mut Tx,
    room: RoomNid,
    tombstone: Option<EventNid>,
    successor: RoomNid,
) -> Result<()> {
    const INSERT: &str = "INSERT INTO room_successors (room_nid, tombstone_nid, successor_nid) \
         VALUES ($1, $2, $3)";
    let tombstone = tombstone.map_or(0, |tombstone| tombstone.0);
    execute!(tx, sql::query(INSERT).bind(room.0).bind(tombstone).bind(successor.0)).map(drop)
}

/// Returns the room that replaces another that had this tombstone before.
///
/// # Errors
/// When the database fails.
pub async fn successor(
    db: &Database,
    room: RoomNid,
    tombstone: Option<EventNid>,
) -> Result<Option<RoomNid>> {
    const FIND: &str = "SELECT successor_nid FROM room_successors \
         WHERE room_nid = $1 AND tombstone_nid = $2";
    let tombstone = tombstone.map_or(0, |tombstone| tombstone.0);
    let found: Option<i64> =
        read!(db, |c| sql::query_scalar(FIND).bind(room.0).bind(tombstone).fetch_optional(c))?;
    Ok(found.map(RoomNid))
}
