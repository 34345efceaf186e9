//! Device lists of users of other servers: kept while such a user shares a room with somebody here, changed as his
//! server says, and asked for again where something may be missing.
//!
//! Invariant: what an answer says that was asked for before something happened (a change, a membership) is
//! never taken for whole: each of them raises the list's generation.

use std::collections::BTreeMap;

use colonnade_model::nid::{RoomNid, UserNid};
use futures_util::TryFutureExt as _;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
};

/// Users named in one statement.
const LIST_MAX: usize = 1_000;

/// A device of a user of another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDevice {
    /// Its name among the user's devices.
    pub device_id: String,
    /// What people call it.
    pub display_name: Option<String>,
    /// Its identity keys as JSON, if it has any.
    pub keys: Option<String>,
}

/// A change of a device, as its server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteChange {
    /// Whose device.
    pub user: UserNid,
    /// Its number in that server's count.
    pub stream_id: i64,
    /// The changes before it.
    pub prev_ids: Vec<i64>,
    /// The device now; `None` with its name: it is gone.
    pub device: Result<RemoteDevice, String>,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// The list has it.
    Taken,
    /// The list had it.
    Known,
    /// Something is missing: the whole list has to be asked for.
    Missing,
}

/// Returns those of `users` whose lists are whole.
///
/// # Errors
/// When the database fails.
pub async fn whole(db: &Database, users: &[UserNid]) -> Result<Vec<UserNid>> {
    const WHOLE: &str =
        "SELECT user_nid FROM remote_device_lists WHERE user_nid IN {INTS 1} AND is_stale = 0";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<i64> =
            read_list!(db, WHOLE, |sql, c| sql::query_scalar(sql).bind(list).fetch_all(c))?;
        found.extend(rows.into_iter().map(UserNid));
    }
    Ok(found)
}

/// Begins to ask for a list; returns its generation.
///
/// # Errors
/// When the database fails.
pub async fn begin(db: &Database, user: UserNid) -> Result<i64> {
    const MAKE: &str = "INSERT INTO remote_device_lists (user_nid, stream_id, is_stale, generation) \
         VALUES ($1, 0, 1, 0) ON CONFLICT (user_nid) DO NOTHING";
    const GENERATION: &str = "SELECT generation FROM remote_device_lists WHERE user_nid = $1";
    let begin = db.write(move |tx| {
        Box::pin(async move {
            execute!(tx, sql::query(MAKE).bind(user.0))?;
            run!(tx, |c| sql::query_scalar(GENERATION).bind(user.0).fetch_one(c))
        })
    });
    begin.await
}

/// What became of a list that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// It is whole: nothing happened meanwhile.
    pub is_whole: bool,
    /// It says something else than the one that was kept.
    pub is_news: bool,
}

/// Keeps a list that was asked for in a generation.
///
/// # Errors
/// When the database fails.
pub async fn replace(
    tx: &mut Tx,
    user: UserNid,
    generation: i64,
    stream_id: i64,
    devices: Vec<RemoteDevice>,
) -> Result<Replaced> {
    const KEPT: &str =
        "SELECT device_id, display_name, keys FROM remote_devices WHERE user_nid = $1";
    // Not of a user whom nobody here shares a room with by now: his server tells nothing more.
    const WHOLE: &str = "UPDATE remote_device_lists SET stream_id = $3, is_stale = 0 \
         WHERE user_nid = $1 AND generation = $2 AND EXISTS \
         (SELECT 1 FROM room_members m JOIN room_heads h ON h.room_nid = m.room_nid \
          WHERE m.user_nid = $1 AND m.membership = 1 AND h.joined > (SELECT \
          COALESCE(SUM(s.joined), 0) FROM room_servers s WHERE s.room_nid = m.room_nid))";
    const EMPTY: &str = "DELETE FROM remote_devices WHERE user_nid = $1";
    let kept: Vec<(String, Option<String>, Option<String>)> =
        run!(tx, |c| sql::query_as(KEPT).bind(user.0).fetch_all(c))?;
    let kept = kept.into_iter().map(|(device_id, display_name, keys)| {
        (device_id.clone(), RemoteDevice { device_id, display_name, keys })
    });
    let kept: BTreeMap<String, RemoteDevice> = kept.collect();
    let given = devices.into_iter().map(|device| (device.device_id.clone(), device));
    let given: BTreeMap<String, RemoteDevice> = given.collect();
    let is_news = kept != given;
    if is_news {
        execute!(tx, sql::query(EMPTY).bind(user.0))?;
        for device in given.into_values() {
            put(tx, user, device).await?;
        }
    }
    let rows = execute!(tx, sql::query(WHOLE).bind(user.0).bind(generation).bind(stream_id))?;
    Ok(Replaced { is_whole: rows == 1, is_news })
}

async fn put(tx: &mut Tx, user: UserNid, device: RemoteDevice) -> Result<()> {
    const PUT: &str = "INSERT INTO remote_devices (user_nid, device_id, display_name, keys) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (user_nid, device_id) DO UPDATE SET \
         display_name = excluded.display_name, keys = excluded.keys";
    let RemoteDevice { device_id, display_name, keys } = device;
    execute!(tx, sql::query(PUT).bind(user.0).bind(device_id).bind(display_name).bind(keys))
        .map(drop)
}

/// Applies a change, if the list is whole up to it.
///
/// # Errors
/// When the database fails.
pub async fn apply(tx: &mut Tx, change: RemoteChange) -> Result<Applied> {
    const STANDS: &str = "SELECT stream_id, is_stale FROM remote_device_lists WHERE user_nid = $1";
    const NEXT: &str = "UPDATE remote_device_lists SET stream_id = $2, \
         generation = generation + 1 WHERE user_nid = $1";
    const GONE: &str = "DELETE FROM remote_devices WHERE user_nid = $1 AND device_id = $2";
    let RemoteChange { user, stream_id, prev_ids, device } = change;
    let stands: Option<(i64, i64)> =
        run!(tx, |c| sql::query_as(STANDS).bind(user.0).fetch_optional(c))?;
    match stands {
        Some((known, 0)) if known == stream_id => return Ok(Applied::Known),
        Some((known, 0)) if !prev_ids.is_empty() && prev_ids.iter().all(|prev| *prev == known) => {}
        _ => {
            doubt(tx, &[user]).await?;
            return Ok(Applied::Missing);
        }
    }
    match device {
        Ok(device) => put(tx, user, device).await?,
        Err(gone) => execute!(tx, sql::query(GONE).bind(user.0).bind(gone)).map(drop)?,
    }
    execute!(tx, sql::query(NEXT).bind(user.0).bind(stream_id))?;
    Ok(Applied::Taken)
}

/// Notes that something may be missing in the lists of some users, whoever they are.
///
/// # Errors
/// When the database fails.
pub async fn doubt(tx: &mut Tx, users: &[UserNid]) -> Result<()> {
    const DOUBT: &str = "UPDATE remote_device_lists SET is_stale = 1, generation = generation + 1 \
         WHERE user_nid IN {INTS 1}";
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        run_list!(tx, DOUBT, |sql, c| sql::query(sql).bind(list).execute(c).map_ok(drop))?;
    }
    Ok(())
}

/// Notes that something may be missing in the lists of those who are in a room nobody of this server is in any
/// longer: their servers tell it to nobody here.
///
/// # Errors
/// When the database fails.
pub(crate) async fn doubt_if_left(tx: &mut Tx, room: RoomNid) -> Result<()> {
    const LEFT: &str = "SELECT h.room_nid FROM room_heads h WHERE h.room_nid = $1 AND h.joined \
         <= (SELECT COALESCE(SUM(s.joined), 0) FROM room_servers s WHERE s.room_nid = $1)";
    const DOUBT: &str = "UPDATE remote_device_lists SET is_stale = 1, generation = generation + 1 \
         WHERE user_nid IN (SELECT user_nid FROM room_members WHERE room_nid = $1 AND membership = 1)";
    let left: Option<i64> = run!(tx, |c| sql::query_scalar(LEFT).bind(room.0).fetch_optional(c))?;
    match left {
        Some(_) => execute!(tx, sql::query(DOUBT).bind(room.0)).map(drop),
        None => Ok(()),
    }
}

/// Returns the devices of some users that have keys, as far as they are kept.
///
/// # Errors
/// When the database fails.
pub async fn of_users(db: &Database, users: &[UserNid]) -> Result<Vec<(UserNid, RemoteDevice)>> {
    const FIND: &str = "SELECT user_nid, device_id, display_name, keys FROM remote_devices \
         WHERE user_nid IN {INTS 1} AND keys IS NOT NULL ORDER BY user_nid, device_id";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<(i64, String, Option<String>, Option<String>)> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        found.extend(rows.into_iter().map(|(user, device_id, display_name, keys)| {
            (UserNid(user), RemoteDevice { device_id, display_name, keys })
        }));
    }
    Ok(found)
}
