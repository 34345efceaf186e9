//! Devices of local users: their names and when they were last seen. Their keys and inboxes are in
//! `encryption`, their tokens in `sessions`.

use colonnade_model::{
    nid::{DeviceNid, UserNid},
    ruma::{DeviceId, OwnedDeviceId},
};

use futures_util::TryFutureExt as _;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
};

/// Devices that make room for one that logs in, at a time: mostly one, more after the bound was lowered.
const EVICTED_MAX: i64 = 20;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its local id.
    pub device: DeviceNid,
    /// The name the client knows it by; unique within the user.
    pub device_id: OwnedDeviceId,
    /// The name people gave it.
    pub display_name: Option<String>,
    /// When it was last seen, in milliseconds since the Unix epoch.
    pub last_seen_ts: Option<i64>,
    /// Where it was last seen.
    pub last_seen_ip: Option<String>,
}

/// When and where a device was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The device.
    pub device: DeviceNid,
    /// When, in milliseconds since the Unix epoch.
    pub ts: i64,
    /// Where; `None` keeps what was stored.
    pub ip: Option<String>,
}

/// Stores a device unless the user has one of this name, and returns the local id of the one that
/// is there now, with whether it is new.
///
/// # Errors
/// When the database fails.
pub async fn create(
    tx: &mut Tx,
    user: UserNid,
    fresh: Device,
    created_ts: i64,
) -> Result<(DeviceNid, bool)> {
    const INSERT: &str = "INSERT INTO devices \
         (device_nid, user_nid, device_id, display_name, created_ts, last_seen_ts, last_seen_ip) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (user_nid, device_id) DO UPDATE SET device_id = excluded.device_id \
         RETURNING device_nid";
    let stored: i64 = run!(tx, |c| sql::query_scalar(INSERT)
        .bind(fresh.device.0)
        .bind(user.0)
        .bind(fresh.device_id.to_string())
        .bind(fresh.display_name.clone())
        .bind(created_ts)
        .bind(fresh.last_seen_ts)
        .bind(fresh.last_seen_ip.clone())
        .fetch_one(c))?;
    Ok((DeviceNid(stored), stored == fresh.device.0))
}

/// Returns the user's devices beyond `count_max`, without `kept` among them: those seen longest ago.
///
/// # Errors
/// When the database fails.
pub async fn beyond(
    tx: &mut Tx,
    user: UserNid,
    kept: DeviceNid,
    count_max: i64,
) -> Result<Vec<DeviceNid>> {
    const BEYOND: &str = "SELECT device_nid FROM devices \
         WHERE user_nid = $1 AND device_nid <> $2 \
         ORDER BY COALESCE(last_seen_ts, created_ts) DESC, device_nid DESC LIMIT $4 OFFSET $3";
    let others_max = (count_max - 1).max(0);
    let beyond: Vec<i64> = run!(tx, |c| sql::query_scalar(BEYOND)
        .bind(user.0)
        .bind(kept.0)
        .bind(others_max)
        .bind(EVICTED_MAX)
        .fetch_all(c))?;
    Ok(beyond.into_iter().map(DeviceNid).collect())
}

type Row = (i64, String, Option<String>, Option<i64>, Option<String>);

fn device_of((nid, id, display_name, last_seen_ts, last_seen_ip): Row) -> Device {
    Device {
        device: DeviceNid(nid),
        device_id: id.into(),
        display_name,
        last_seen_ts,
        last_seen_ip,
    }
}

/// Returns the device a user calls `device_id`.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, user: UserNid, device_id: &DeviceId) -> Result<Option<Device>> {
    const FIND: &str = "SELECT device_nid, device_id, display_name, last_seen_ts, last_seen_ip \
         FROM devices WHERE user_nid = $1 AND device_id = $2";
    let row: Option<Row> = read!(db, |c| sql::query_as(FIND)
        .bind(user.0)
        .bind(device_id.as_str().to_owned())
        .fetch_optional(c))?;
    Ok(row.map(device_of))
}

/// Returns all devices of a user, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &Database, user: UserNid) -> Result<Vec<Device>> {
    const LIST: &str = "SELECT device_nid, device_id, display_name, last_seen_ts, last_seen_ip \
         FROM devices WHERE user_nid = $1 ORDER BY device_nid";
    let rows: Vec<Row> = read!(db, |c| sql::query_as(LIST).bind(user.0).fetch_all(c))?;
    Ok(rows.into_iter().map(device_of).collect())
}

/// Returns the local ids of all devices of a user, inside a transaction that changes them.
///
/// # Errors
/// When the database fails.
pub async fn all_of(tx: &mut Tx, user: UserNid) -> Result<Vec<DeviceNid>> {
    const ALL: &str = "SELECT device_nid FROM devices WHERE user_nid = $1 ORDER BY device_nid";
    let nids: Vec<i64> = run!(tx, |c| sql::query_scalar(ALL).bind(user.0).fetch_all(c))?;
    Ok(nids.into_iter().map(DeviceNid).collect())
}

/// Returns the names of devices, inside a transaction that deletes them.
///
/// # Errors
/// When the database fails.
pub async fn names(tx: &mut Tx, devices: &[DeviceNid]) -> Result<Vec<String>> {
    const NAMES: &str =
        "SELECT device_id FROM devices WHERE device_nid IN {INTS 1} ORDER BY device_nid";
    let list = int_list(devices.iter().map(|device| device.0));
    run_list!(tx, NAMES, |sql, c| sql::query_scalar(sql).bind(list).fetch_all(c))
}

/// Tells whether a device is there, and not logged out meanwhile, for what is about to be stored for it.
///
/// # Errors
/// When the database fails.
pub async fn is_there(tx: &mut Tx, device: DeviceNid) -> Result<bool> {
    const THERE: &str = "SELECT count(*) FROM devices WHERE device_nid = $1";
    let found: i64 = run!(tx, |c| sql::query_scalar(THERE).bind(device.0).fetch_one(c))?;
    Ok(found > 0)
}

/// Gives a device another name; false when there is no such device.
///
/// # Errors
/// When the database fails.
pub async fn rename(tx: &mut Tx, device: DeviceNid, display_name: Option<String>) -> Result<bool> {
    const RENAME: &str = "UPDATE devices SET display_name = $2 WHERE device_nid = $1";
    Ok(execute!(tx, sql::query(RENAME).bind(device.0).bind(display_name))? == 1)
}

/// Deletes devices. Their tokens and keys have to be deleted beside it.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, devices: &[DeviceNid]) -> Result<()> {
    const DELETE: &str = "DELETE FROM devices WHERE device_nid IN {INTS 1}";
    let list = int_list(devices.iter().map(|device| device.0));
    run_list!(tx, DELETE, |sql, c| sql::query(sql).bind(list).execute(c).map_ok(drop))
}

/// Notes when and where devices were seen; one that is gone by now is passed over.
///
/// # Errors
/// When the database fails.
pub async fn seen(tx: &mut Tx, seen: Vec<Seen>) -> Result<()> {
    const SEEN: &str = "UPDATE devices SET last_seen_ts = $2, \
         last_seen_ip = COALESCE($3, last_seen_ip) WHERE device_nid = $1";
    for Seen { device, ts, ip } in seen {
        execute!(tx, sql::query(SEEN).bind(device.0).bind(ts).bind(ip))?;
    }
    Ok(())
}
