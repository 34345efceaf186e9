//! Read receipts: the latest of each kind a user has in a room, per thread.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Stream, Touch},
};

use crate::{
    Database, Lane, Tx,
    database::{int_list, sql},
    error::Result,
};

/// Who is told of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `m.read`: everybody in the room.
    Public,
    /// `m.read.private`: only its user.
    Private,
}

impl Kind {
    fn number(self) -> i64 {
        match self {
            Self::Public => 1,
            Self::Private => 2,
        }
    }
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The room.
    pub room: RoomNid,
    /// Who has read.
    pub user: UserNid,
    /// Who is told.
    pub kind: Kind,
    /// The empty string for the whole room, `main`, or the id of a thread's root.
    pub thread: String,
    /// Up to this event.
    pub event_id: String,
    /// The event's position in the events stream.
    pub event_pos: Position,
    /// When it was sent, in milliseconds since 1970.
    pub ts: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    room_nid: i64,
    user_nid: i64,
    kind: i64,
    thread: String,
    event_id: String,
    event_pos: i64,
    ts: i64,
    pos: i64,
}

impl From<Row> for Receipt {
    fn from(row: Row) -> Self {
        Self {
            room: RoomNid(row.room_nid),
            user: UserNid(row.user_nid),
            kind: if row.kind == 2 { Kind::Private } else { Kind::Public },
            thread: row.thread,
            event_id: row.event_id,
            event_pos: row.event_pos,
            ts: row.ts,
        }
    }
}

/// Stores a receipt unless the user has read further already; true if it moved. Of each kind the user
/// keeps those of `threads_max` threads in the room.
///
/// # Errors
/// When the database fails.
pub async fn put(db: &Database, receipt: Receipt, threads_max: i64) -> Result<bool> {
    db.write_in(Lane::Receipts, move |tx| {
        Box::pin(async move { write(tx, receipt, threads_max).await })
    })
    .await
}

/// Forgets a user's receipts in the threads of a room that stand furthest back, beyond `threads_max`.
async fn forget_oldest(tx: &mut Tx, receipt: &Receipt, threads_max: i64) -> Result<()> {
    const FORGET: &str = "DELETE FROM receipts WHERE room_nid = $1 AND user_nid = $2 AND kind = $3 \
         AND thread IN (SELECT thread FROM receipts WHERE room_nid = $1 AND user_nid = $2 \
             AND kind = $3 AND thread NOT IN ('', 'main') \
             ORDER BY event_pos DESC, thread LIMIT 1000000 OFFSET $4)";
    execute!(
        tx,
        sql::query(FORGET)
            .bind(receipt.room.0)
            .bind(receipt.user.0)
            .bind(receipt.kind.number())
            .bind(threads_max)
    )
    .map(drop)
}

async fn write(tx: &mut Tx, receipt: Receipt, threads_max: i64) -> Result<bool> {
    const STANDS: &str = "SELECT event_pos FROM receipts \
         WHERE room_nid = $1 AND user_nid = $2 AND kind = $3 AND thread = $4";
    const PUT: &str = "INSERT INTO receipts \
         (room_nid, user_nid, kind, thread, event_id, event_pos, ts, pos) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (room_nid, user_nid, kind, thread) DO UPDATE SET \
         event_id = $5, event_pos = $6, ts = $7, pos = $8";
    let stands: Option<i64> = run!(tx, |c| sql::query_scalar(STANDS)
        .bind(receipt.room.0)
        .bind(receipt.user.0)
        .bind(receipt.kind.number())
        .bind(receipt.thread.clone())
        .fetch_optional(c))?;
    if stands.is_some_and(|stands| stands >= receipt.event_pos) {
        return Ok(false);
    }
    let pos = tx.seal(Stream::Receipts, 1).await?;
    execute!(
        tx,
        sql::query(PUT)
            .bind(receipt.room.0)
            .bind(receipt.user.0)
            .bind(receipt.kind.number())
            .bind(receipt.thread.clone())
            .bind(receipt.event_id.clone())
            .bind(receipt.event_pos)
            .bind(receipt.ts)
            .bind(pos)
    )?;
    if stands.is_none() && !matches!(&*receipt.thread, "" | "main") {
        forget_oldest(tx, &receipt, threads_max).await?;
    }
    tx.touch(Stream::Receipts, Touch::Room(receipt.room), pos);
    tx.touch(Stream::Receipts, Touch::User(receipt.user), pos);
    Ok(true)
}

/// Returns the receipts of a room that changed above `after` and up to `upto`, as `viewer` may see
/// them: all public ones, and the viewer's own private ones. As many as `rows_max`, in the order of their
/// positions, and the position after which the next ones come if there may be any.
///
/// # Errors
/// When the database fails.
pub async fn changes_page(
    db: &Database,
    room: RoomNid,
    viewer: UserNid,
    (after, upto): (Position, Position),
    rows_max: i64,
) -> Result<(Vec<Receipt>, Option<Position>)> {
    const CHANGES: &str = "SELECT room_nid, user_nid, kind, thread, event_id, event_pos, ts, pos \
         FROM receipts WHERE room_nid = $1 AND pos > $2 AND pos <= $3 \
         AND (kind = 1 OR user_nid = $4) ORDER BY pos LIMIT $5";
    let rows: Vec<Row> = read!(db, |c| sql::query_as(CHANGES)
        .bind(room.0)
        .bind(after)
        .bind(upto)
        .bind(viewer.0)
        .bind(rows_max)
        .fetch_all(c))?;
    Ok(page_of(rows, rows_max))
}

/// Returns the receipts of several rooms that changed, as [`changes_page`] does those of one.
///
/// # Errors
/// When the database fails.
pub async fn changes_across(
    db: &Database,
    rooms: &[RoomNid],
    viewer: UserNid,
    (after, upto): (Position, Position),
    rows_max: i64,
) -> Result<(Vec<Receipt>, Option<Position>)> {
    const CHANGES: &str = "SELECT room_nid, user_nid, kind, thread, event_id, event_pos, ts, pos \
         FROM receipts WHERE room_nid IN {INTS 1} AND pos > $2 AND pos <= $3 \
         AND (kind = 1 OR user_nid = $4) ORDER BY pos LIMIT $5";
    let rooms = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<Row> = read_list!(db, CHANGES, |sql, c| {
        let query = sql::query_as(sql).bind(rooms).bind(after).bind(upto);
        query.bind(viewer.0).bind(rows_max).fetch_all(c)
    })?;
    Ok(page_of(rows, rows_max))
}

/// Returns the receipts of a room, the private ones, too, that changed above `after` and up to `upto`, with
/// their positions, oldest first: the last `limit` of them.
///
/// # Errors
/// When the database fails.
pub async fn newest(
    db: &Database,
    room: RoomNid,
    (after, upto): (Position, Position),
    limit: i64,
) -> Result<Vec<(Position, Receipt)>> {
    const NEWEST: &str = "SELECT room_nid, user_nid, kind, thread, event_id, event_pos, ts, pos \
         FROM receipts WHERE room_nid = $1 AND pos > $2 AND pos <= $3 ORDER BY pos DESC LIMIT $4";
    let rows: Vec<Row> = read!(db, |c| sql::query_as(NEWEST)
        .bind(room.0)
        .bind(after)
        .bind(upto)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().rev().map(|row| (row.pos, row.into())).collect())
}

/// Returns a user's own receipts in a room.
///
/// # Errors
/// When the database fails.
pub async fn of_user(db: &Database, room: RoomNid, user: UserNid) -> Result<Vec<Receipt>> {
    const OWN: &str = "SELECT room_nid, user_nid, kind, thread, event_id, event_pos, ts, pos \
         FROM receipts WHERE room_nid = $1 AND user_nid = $2 ORDER BY pos";
    let rows: Vec<Row> = read!(db, |c| sql::query_as(OWN).bind(room.0).bind(user.0).fetch_all(c))?;
    Ok(rows.into_iter().map(Receipt::from).collect())
}

/// Makes a page of the rows that were read, and says after which position the next one begins.
fn page_of(rows: Vec<Row>, rows_max: i64) -> (Vec<Receipt>, Option<Position>) {
    let is_full = rows.len() as i64 >= rows_max;
    let next = rows.last().filter(|_| is_full).map(|last| last.pos);
    (rows.into_iter().map(Receipt::from).collect(), next)
}

/// Returns how far a user has read a room: thread (empty for the whole room) and position.
///
/// # Errors
/// When the database fails.
pub async fn read_upto(
    db: &Database,
    room: RoomNid,
    user: UserNid,
) -> Result<Vec<(String, Position)>> {
    const READ: &str = "SELECT thread, MAX(event_pos) FROM receipts \
         WHERE room_nid = $1 AND user_nid = $2 GROUP BY thread";
    read!(db, |c| sql::query_as(READ).bind(room.0).bind(user.0).fetch_all(c))
}

/// Returns how far a user has read in some rooms: room, thread (empty for the whole room) and position.
///
/// # Errors
/// When the database fails.
pub async fn read_upto_in(
    db: &Database,
    rooms: &[RoomNid],
    user: UserNid,
) -> Result<Vec<(RoomNid, String, Position)>> {
    const READ: &str = "SELECT room_nid, thread, MAX(event_pos) FROM receipts \
         WHERE user_nid = $1 AND room_nid IN {INTS 2} GROUP BY room_nid, thread";
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<(i64, String, i64)> =
        read_list!(db, READ, |sql, c| sql::query_as(sql).bind(user.0).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(room, thread, pos)| (RoomNid(room), thread, pos)).collect())
}

/// Returns the position of the latest receipt of every room that has one.
///
/// # Errors
/// When the database fails.
pub async fn heads(db: &Database) -> Result<Vec<(i64, Position)>> {
    const HEADS: &str = "SELECT room_nid, MAX(pos) FROM receipts GROUP BY room_nid";
    read!(db, |c| sql::query_as(HEADS).fetch_all(c))
}
