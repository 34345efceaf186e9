//! One-time keys and fallback keys. A one-time key is handed out at most once: claiming deletes the
//! row and remembers the id, in one transaction. Fallback keys are handed out when none is left.

use colonnade_model::nid::DeviceNid;

use crate::{
    Database, Tx,
    database::sql,
    error::{Result, StorageError},
    quota::{Bound, Quota},
};

/// Ids of issued keys remembered per device: a client holds at most about a hundred keys at once, so
/// an id older than this cannot come back by an honest retry.
pub const ISSUED_KEPT: i64 = 500;

/// Lost races for one key before a claim gives up on one-time keys; every loss is another claim's
/// gain, so this many at the same moment do not happen.
const RACES_MAX: usize = 100;

/// A one-time or fallback key: `algorithm:key_id` and what stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeKey {
    /// `signed_curve25519`, say.
    pub algorithm: String,
    /// The part after the colon.
    pub key_id: String,
    /// The key as canonical JSON: a string or an object.
    pub key: String,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// Every key is stored now, or was stored or issued before with the same content.
    Stored,
    /// This `algorithm:key_id` is known with another content; nothing was stored.
    Differs(String),
}

/// Stores one-time keys after those uploaded before.
///
/// # Errors
/// [`StorageError::Full`] when more would be unclaimed than `quota`; when the database fails.
pub async fn put(
    tx: &mut Tx,
    device: DeviceNid,
    keys: Vec<OneTimeKey>,
    quota: &Quota,
) -> Result<Uploaded> {
    const KNOWN: &str = "SELECT key FROM one_time_keys \
         WHERE device_nid = $1 AND algorithm = $2 AND key_id = $3 \
         UNION ALL SELECT key FROM issued_keys \
         WHERE device_nid = $1 AND algorithm = $2 AND key_id = $3";
    const UPLOAD: &str =
        "SELECT COALESCE(MAX(upload), 0) + 1 FROM one_time_keys WHERE device_nid = $1";
    const PUT: &str = "INSERT INTO one_time_keys (device_nid, algorithm, key_id, upload, key) \
         VALUES ($1, $2, $3, $4, $5)";
    let mut fresh = Vec::with_capacity(keys.len());
    for key in keys {
        let known: Vec<String> = run!(tx, |c| sql::query_scalar(KNOWN)
            .bind(device.0)
            .bind(key.algorithm.clone())
            .bind(key.key_id.clone())
            .fetch_all(c))?;
        if known.iter().any(|known| *known != key.key) {
            return Ok(Uploaded::Differs(format!("{}:{}", key.algorithm, key.key_id)));
        }
        if known.is_empty() {
            fresh.push(key);
        }
    }
    if fresh.is_empty() {
        return Ok(Uploaded::Stored);
    }
    let upload: i64 = run!(tx, |c| sql::query_scalar(UPLOAD).bind(device.0).fetch_one(c))?;
    for key in fresh {
        execute!(
            tx,
            sql::query(PUT)
                .bind(device.0)
                .bind(key.algorithm)
                .bind(key.key_id)
                .bind(upload)
                .bind(key.key)
        )?;
    }
    require_within(tx, device, quota).await?;
    Ok(Uploaded::Stored)
}

/// Refuses what is too much, and too many algorithms: every sync counts the keys of each.
async fn require_within(tx: &mut Tx, device: DeviceNid, quota: &Quota) -> Result<()> {
    const KEPT: &str = "SELECT count(*), CAST(COALESCE(SUM(octet_length(key)), 0) AS BIGINT), \
         count(DISTINCT algorithm) FROM one_time_keys WHERE device_nid = $1";
    let (items, bytes, algorithms): (i64, i64, i64) =
        run!(tx, |c| sql::query_as(KEPT).bind(device.0).fetch_one(c))?;
    quota.require(items, bytes)?;
    ALGORITHMS.require(algorithms, 0)
}

/// Algorithms a device may have keys for: two are in use.
const ALGORITHMS: Quota = Quota {
    what: "algorithms of one-time and fallback keys",
    items: Bound { setting: "of a device", max: 16 },
    bytes: Bound::NONE,
};

/// Stores fallback keys, one per algorithm. A new key counts as unused; the same key once more keeps
/// its mark, so that a repeated upload does not hide that the key was given out.
///
/// # Errors
/// When the database fails.
pub async fn put_fallback(tx: &mut Tx, device: DeviceNid, keys: Vec<OneTimeKey>) -> Result<()> {
    const KEPT: &str = "SELECT count(*) FROM fallback_keys WHERE device_nid = $1";
    const PUT: &str = "INSERT INTO fallback_keys (device_nid, algorithm, key_id, key, used) \
         VALUES ($1, $2, $3, $4, 0) ON CONFLICT (device_nid, algorithm) DO UPDATE \
         SET key_id = excluded.key_id, key = excluded.key, used = 0 \
         WHERE fallback_keys.key_id <> excluded.key_id OR fallback_keys.key <> excluded.key";
    for key in keys {
        execute!(
            tx,
            sql::query(PUT).bind(device.0).bind(key.algorithm).bind(key.key_id).bind(key.key)
        )?;
    }
    let kept: i64 = run!(tx, |c| sql::query_scalar(KEPT).bind(device.0).fetch_one(c))?;
    ALGORITHMS.require(kept, 0)
}

/// From what a claim is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// One-time keys, and the fallback key when none is left.
    OneTime,
    /// The fallback key alone.
    Fallback,
}

/// Hands out a key of `device`: the oldest one-time key, for the last time, or the fallback key.
///
/// # Errors
/// When the database fails.
pub async fn claim(
    tx: &mut Tx,
    device: DeviceNid,
    algorithm: &str,
    supply: Supply,
) -> Result<Option<OneTimeKey>> {
    const FALLBACK: &str = "UPDATE fallback_keys SET used = 1 \
         WHERE device_nid = $1 AND algorithm = $2 RETURNING key_id, key";
    if supply == Supply::OneTime
        && let Some((key_id, key)) = take(tx, device, algorithm).await?
    {
        remember(tx, device, algorithm, &key_id, &key).await?;
        return Ok(Some(OneTimeKey { algorithm: algorithm.to_owned(), key_id, key }));
    }
    let fallback: Option<(String, String)> = run!(tx, |c| sql::query_as(FALLBACK)
        .bind(device.0)
        .bind(algorithm.to_owned())
        .fetch_optional(c))?;
    Ok(fallback.map(|(key_id, key)| OneTimeKey { algorithm: algorithm.to_owned(), key_id, key }))
}

/// Deletes and returns the oldest key. With several writers two may aim at one row; the one that
/// comes second finds nothing and aims again.
async fn take(tx: &mut Tx, device: DeviceNid, algorithm: &str) -> Result<Option<(String, String)>> {
    const OLDEST: &str = "SELECT key_id FROM one_time_keys \
         WHERE device_nid = $1 AND algorithm = $2 ORDER BY upload, key_id LIMIT 1";
    const TAKE: &str = "DELETE FROM one_time_keys \
         WHERE device_nid = $1 AND algorithm = $2 AND key_id = $3 RETURNING key";
    for _ in 0..RACES_MAX {
        let oldest: Option<String> = run!(tx, |c| sql::query_scalar(OLDEST)
            .bind(device.0)
            .bind(algorithm.to_owned())
            .fetch_optional(c))?;
        let Some(key_id) = oldest else { return Ok(None) };
        let taken: Option<String> = run!(tx, |c| sql::query_scalar(TAKE)
            .bind(device.0)
            .bind(algorithm.to_owned())
            .bind(key_id.clone())
            .fetch_optional(c))?;
        if let Some(key) = taken {
            return Ok(Some((key_id, key)));
        }
    }
    Err(StorageError::Unavailable("too many claims of one device at once".to_owned()))
}

/// Notes an issued key, and forgets the oldest.
async fn remember(
    tx: &mut Tx,
    device: DeviceNid,
    algorithm: &str,
    key_id: &str,
    key: &str,
) -> Result<()> {
    const PUT: &str = "INSERT INTO issued_keys (device_nid, algorithm, key_id, issue, key) \
         SELECT $1, $2, $3, COALESCE(MAX(issue), 0) + 1, $4 FROM issued_keys \
         WHERE device_nid = $1";
    const PRUNE: &str = "DELETE FROM issued_keys WHERE device_nid = $1 AND issue <= \
         (SELECT MAX(issue) FROM issued_keys WHERE device_nid = $1) - $2";
    execute!(
        tx,
        sql::query(PUT)
            .bind(device.0)
            .bind(algorithm.to_owned())
            .bind(key_id.to_owned())
            .bind(key.to_owned())
    )?;
    execute!(tx, sql::query(PRUNE).bind(device.0).bind(ISSUED_KEPT))?;
    Ok(())
}

/// Returns how many unclaimed one-time keys a device has of each algorithm.
///
/// # Errors
/// When the database fails.
pub async fn counts(db: &Database, device: DeviceNid) -> Result<Vec<(String, i64)>> {
    const COUNT: &str = "SELECT algorithm, CAST(count(*) AS BIGINT) FROM one_time_keys \
         WHERE device_nid = $1 GROUP BY algorithm ORDER BY algorithm";
    read!(db, |c| sql::query_as(COUNT).bind(device.0).fetch_all(c))
}

/// Returns the algorithms for which a device has a fallback key that was never handed out.
///
/// # Errors
/// When the database fails.
pub async fn unused_fallback(db: &Database, device: DeviceNid) -> Result<Vec<String>> {
    const UNUSED: &str = "SELECT algorithm FROM fallback_keys \
         WHERE device_nid = $1 AND used = 0 ORDER BY algorithm";
    read!(db, |c| sql::query_scalar(UNUSED).bind(device.0).fetch_all(c))
}
