//! Device lists: who has to look at whose keys again. A change is one row of the stream; who sees it
//! is found when it is read, from who shares a room with whom. Never holds keys itself.

use std::collections::HashMap;

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::{Position, Stream, Touch},
};

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
};

/// The membership number of a joined member, as stored.
const JOIN: i64 = 1;

/// Rows handed to one statement as a list.
const LIST_MAX: usize = 5_000;

/// Tells everybody who shares a room with `user`, and the user, to look at the user's keys again. Those that changed are
/// of these devices; of none of them: the cross-signing keys, or anything of a user of another server.
///
/// Takes a position: call it last in the transaction.
///
/// # Errors
/// When the database fails.
pub async fn changed(tx: &mut Tx, user: UserNid, devices: &[String]) -> Result<Position> {
    const ROOMS: &str = "SELECT room_nid FROM room_members WHERE user_nid = $1 AND membership = $2";
    let pos = match devices {
        [] => insert(tx, user, None).await?,
        devices => insert_devices(tx, user, devices).await?,
    };
    // Last of all: whoever joins a room after this is told as one who came.
    let rooms: Vec<i64> =
        run!(tx, |c| sql::query_scalar(ROOMS).bind(user.0).bind(JOIN).fetch_all(c))?;
    tx.touch(Stream::DeviceLists, Touch::User(user), pos);
    for room in rooms {
        tx.touch(Stream::DeviceLists, Touch::Room(RoomNid(room)), pos);
    }
    Ok(pos)
}

/// Tells `viewer` alone to look at the keys of `user` again: signatures that only the viewer sees.
///
/// # Errors
/// When the database fails.
pub async fn changed_for(tx: &mut Tx, user: UserNid, viewer: UserNid) -> Result<Position> {
    let pos = insert(tx, user, Some(viewer)).await?;
    tx.touch(Stream::DeviceLists, Touch::User(viewer), pos);
    Ok(pos)
}

/// Writes a change of each device, and returns the position of the last. Each names the one before it.
async fn insert_devices(tx: &mut Tx, user: UserNid, devices: &[String]) -> Result<Position> {
    const BEFORE: &str = "SELECT pos FROM device_list_heads WHERE user_nid = $1";
    const INSERT: &str = "INSERT INTO device_changes (pos, user_nid, device_id, prev_pos) \
         VALUES ($1, $2, $3, $4)";
    const HEAD: &str = "INSERT INTO device_list_heads (user_nid, pos) VALUES ($1, $2) \
         ON CONFLICT (user_nid) DO UPDATE SET pos = excluded.pos";
    let mut before: Option<i64> =
        run!(tx, |c| sql::query_scalar(BEFORE).bind(user.0).fetch_optional(c))?;
    let first = tx.seal(Stream::DeviceLists, devices.len()).await?;
    let mut last = first;
    for (pos, device) in (first..).zip(devices) {
        let device = device.clone();
        execute!(tx, sql::query(INSERT).bind(pos).bind(user.0).bind(device).bind(before))?;
        (before, last) = (Some(pos), pos);
    }
    execute!(tx, sql::query(HEAD).bind(user.0).bind(last))?;
    Ok(last)
}

/// Returns the last change of a device of a user; 0 when there was none.
///
/// # Errors
/// When the database fails.
pub async fn last_change(db: &Database, user: UserNid) -> Result<Position> {
    const LAST: &str = "SELECT pos FROM device_list_heads WHERE user_nid = $1";
    let last: Option<i64> = read!(db, |c| sql::query_scalar(LAST).bind(user.0).fetch_optional(c))?;
    Ok(last.unwrap_or(0))
}

async fn insert(tx: &mut Tx, user: UserNid, viewer: Option<UserNid>) -> Result<Position> {
    const INSERT: &str =
        "INSERT INTO device_changes (pos, user_nid, viewer_nid) VALUES ($1, $2, $3)";
    let pos = tx.seal(Stream::DeviceLists, 1).await?;
    let viewer = viewer.map(|viewer| viewer.0);
    execute!(tx, sql::query(INSERT).bind(pos).bind(user.0).bind(viewer))?;
    Ok(pos)
}

/// Returns the users whose keys changed after `from` up to `upto` and whose keys `viewer` follows:
/// the viewer, whoever is joined to a room with the viewer now, and what only the viewer is told.
///
/// # Errors
/// When the database fails.
pub async fn changes(
    db: &Database,
    viewer: UserNid,
    from: Position,
    upto: Position,
) -> Result<Vec<UserNid>> {
    const CHANGES: &str = "SELECT DISTINCT d.user_nid FROM device_changes d \
         WHERE d.pos > $2 AND d.pos <= $3 AND (d.viewer_nid = $1 OR (d.viewer_nid IS NULL AND \
         (d.user_nid = $1 OR EXISTS (SELECT 1 FROM room_members t JOIN room_members m \
         ON m.room_nid = t.room_nid WHERE t.user_nid = d.user_nid AND t.membership = $4 \
         AND m.user_nid = $1 AND m.membership = $4))))";
    let users: Vec<i64> = read!(db, |c| sql::query_scalar(CHANGES)
        .bind(viewer.0)
        .bind(from)
        .bind(upto)
        .bind(JOIN)
        .fetch_all(c))?;
    Ok(users.into_iter().map(UserNid).collect())
}

/// Finds changes behind a position that a later one repeats: whoever has not heard of them is told of
/// that. Looks at `limit` changes and returns the last of them, too; nothing behind the newest.
///
/// # Errors
/// When the database fails.
pub async fn repeated(
    db: &Database,
    after: Position,
    limit: i64,
) -> Result<Option<(Position, Vec<Position>)>> {
    const LOOK: &str = "SELECT d.pos, CAST(CASE WHEN EXISTS (SELECT 1 FROM device_changes n \
            WHERE n.user_nid = d.user_nid AND n.pos > d.pos \
              AND COALESCE(n.viewer_nid, 0) = COALESCE(d.viewer_nid, 0) \
              AND (n.device_id IS NULL) = (d.device_id IS NULL)) THEN 1 ELSE 0 END AS BIGINT) \
         FROM (SELECT pos, user_nid, viewer_nid, device_id FROM device_changes WHERE pos > $1 \
            ORDER BY pos LIMIT $2) AS d ORDER BY d.pos";
    let rows: Vec<(i64, i64)> =
        read!(db, |c| sql::query_as(LOOK).bind(after).bind(limit).fetch_all(c))?;
    let Some((last, _)) = rows.last().copied() else { return Ok(None) };
    let repeated = rows.into_iter().filter(|(_, repeated)| *repeated == 1).map(|(pos, _)| pos);
    Ok(Some((last, repeated.collect())))
}

/// Forgets changes that are repeated.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, changes: &[Position]) -> Result<()> {
    const FORGET: &str = "DELETE FROM device_changes WHERE pos IN {INTS 1} RETURNING pos";
    let list = int_list(changes.iter().copied());
    let _gone: Vec<i64> =
        run_list!(tx, FORGET, |sql, c| sql::query_scalar(sql).bind(list).fetch_all(c))?;
    Ok(())
}

/// Tells whether any membership was written after `from` up to `upto`.
///
/// # Errors
/// When the database fails.
pub async fn any_membership(db: &Database, from: Position, upto: Position) -> Result<bool> {
    const ANY: &str = "SELECT CAST(count(*) AS BIGINT) FROM (SELECT 1 FROM member_log WHERE pos > $1 \
         AND pos <= $2 LIMIT 1) AS found";
    let found: i64 = read!(db, |c| sql::query_scalar(ANY).bind(from).bind(upto).fetch_one(c))?;
    Ok(found > 0)
}

/// A user who went in or out of a room within a range of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The user.
    pub user: UserNid,
    /// The room.
    pub room: RoomNid,
    /// Was joined at the beginning of the range.
    pub was_in: bool,
    /// Is joined at the end of the range: came, or went and came back.
    pub is_in: bool,
}

/// Returns who entered or left the rooms that concern `viewer` after `from` up to `upto`: every move
/// of the viewer, and the moves of others in rooms the viewer was joined to at `from` or is now. Whoever left and came
/// back within the range has entered: nobody was told of what the user did meanwhile.
///
/// # Errors
/// When the database fails.
pub async fn moves(
    db: &Database,
    viewer: UserNid,
    from: Position,
    upto: Position,
) -> Result<Vec<Moved>> {
    const MOVES: &str = "SELECT l.user_nid, l.room_nid, l.membership, \
         COALESCE((SELECT p.membership FROM member_log p WHERE p.user_nid = l.user_nid \
         AND p.room_nid = l.room_nid AND p.pos <= $2 ORDER BY p.pos DESC LIMIT 1), 0) \
         FROM member_log l WHERE l.pos > $2 AND l.pos <= $3 AND (l.user_nid = $1 OR EXISTS \
         (SELECT 1 FROM room_members m WHERE m.room_nid = l.room_nid AND m.user_nid = $1 \
         AND m.membership = $4) OR (SELECT v.membership FROM member_log v WHERE v.user_nid = $1 \
         AND v.room_nid = l.room_nid AND v.pos <= $2 ORDER BY v.pos DESC LIMIT 1) = $4) \
         ORDER BY l.pos";
    let rows: Vec<(i64, i64, i64, i64)> = read!(db, |c| sql::query_as(MOVES)
        .bind(viewer.0)
        .bind(from)
        .bind(upto)
        .bind(JOIN)
        .fetch_all(c))?;
    let mut stays: HashMap<(i64, i64), Stay> = HashMap::with_capacity(rows.len());
    for (user, room, membership, before) in rows {
        let (began_in, is_in) = (before == JOIN, membership == JOIN);
        let stay = stays.entry((user, room)).or_insert(Stay { began_in, was_out: false, is_in });
        stay.was_out |= !is_in;
        stay.is_in = is_in;
    }
    let moves = stays.into_iter().filter(|(_, stay)| match stay.is_in {
        true => !stay.began_in || stay.was_out,
        false => stay.began_in,
    });
    Ok(moves
        .map(|((user, room), stay)| Moved {
            user: UserNid(user),
            room: RoomNid(room),
            was_in: stay.began_in,
            is_in: stay.is_in,
        })
        .collect())
}

/// What became of a user in a room within a range.
struct Stay {
    began_in: bool,
    was_out: bool,
    is_in: bool,
}

/// Returns everybody who is joined to one of `rooms`.
///
/// # Errors
/// When the database fails.
pub async fn joined(db: &Database, rooms: &[RoomNid]) -> Result<Vec<UserNid>> {
    const JOINED: &str = "SELECT DISTINCT user_nid FROM room_members \
         WHERE room_nid IN {INTS 1} AND membership = $2";
    let mut users = Vec::new();
    for chunk in rooms.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|room| room.0));
        let rows: Vec<i64> = read_list!(db, JOINED, |sql, c| sql::query_scalar(sql)
            .bind(list)
            .bind(JOIN)
            .fetch_all(c))?;
        users.extend(rows.into_iter().map(UserNid));
    }
    Ok(users)
}

/// Returns everybody who was joined to one of `rooms` at a position.
///
/// # Errors
/// When the database fails.
pub async fn joined_at(db: &Database, rooms: &[RoomNid], pos: Position) -> Result<Vec<UserNid>> {
    const JOINED_AT: &str = "SELECT DISTINCT l.user_nid FROM member_log l \
         WHERE l.room_nid IN {INTS 1} AND l.pos <= $2 AND l.membership = $3 AND NOT EXISTS \
         (SELECT 1 FROM member_log n WHERE n.user_nid = l.user_nid AND n.room_nid = l.room_nid \
         AND n.pos > l.pos AND n.pos <= $2)";
    let mut users = Vec::new();
    for chunk in rooms.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|room| room.0));
        let rows: Vec<i64> = read_list!(db, JOINED_AT, |sql, c| sql::query_scalar(sql)
            .bind(list)
            .bind(pos)
            .bind(JOIN)
            .fetch_all(c))?;
        users.extend(rows.into_iter().map(UserNid));
    }
    Ok(users)
}

/// Returns those of `users` who are joined to a room together with `viewer`.
///
/// # Errors
/// When the database fails.
pub async fn sharing(db: &Database, viewer: UserNid, users: &[UserNid]) -> Result<Vec<UserNid>> {
    const SHARING: &str = "SELECT DISTINCT t.user_nid FROM room_members t \
         JOIN room_members m ON m.room_nid = t.room_nid \
         WHERE t.user_nid IN {INTS 2} AND t.membership = $3 \
         AND m.user_nid = $1 AND m.membership = $3";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<i64> = read_list!(db, SHARING, |sql, c| sql::query_scalar(sql)
            .bind(viewer.0)
            .bind(list)
            .bind(JOIN)
            .fetch_all(c))?;
        found.extend(rows.into_iter().map(UserNid));
    }
    Ok(found)
}
