//! Identity keys of devices, and the signatures that were uploaded for them later.

use colonnade_model::nid::{DeviceNid, UserNid};

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
    quota::Quota,
};

/// Users asked for in one statement.
const LIST_MAX: usize = 1_000;

/// The identity keys of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceKeys {
    /// Whose device it is.
    pub user: UserNid,
    /// The device's name among the user's devices.
    pub device_id: String,
    /// The device.
    pub device: DeviceNid,
    /// Canonical JSON as uploaded, without `unsigned`.
    pub keys: String,
}

/// The identity keys of a device, as others are told them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDeviceKeys {
    /// The keys.
    pub keys: DeviceKeys,
    /// What people call the device.
    pub display_name: Option<String>,
}

/// A signature on a key, uploaded by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose key is signed.
    pub target: UserNid,
    /// The device id or the public cross-signing key that is signed.
    pub target_key: String,
    /// Who signed.
    pub signer: UserNid,
    /// The id of the signing key, `ed25519:…`.
    pub signer_key: String,
    /// The signature in unpadded base64.
    pub signature: String,
}

/// Stores the identity keys of a device and tells whether they differ from what was stored. New keys
/// drop the signatures on the old ones.
///
/// # Errors
/// When the database fails.
pub async fn put(tx: &mut Tx, keys: DeviceKeys) -> Result<bool> {
    const OLD: &str = "SELECT keys FROM device_keys WHERE device_nid = $1";
    const PUT: &str = "INSERT INTO device_keys (device_nid, user_nid, device_id, keys) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (device_nid) DO UPDATE SET keys = excluded.keys";
    const FORGET: &str = "DELETE FROM key_signatures WHERE target_nid = $1 AND target_key = $2";
    let old: Option<String> =
        run!(tx, |c| sql::query_scalar(OLD).bind(keys.device.0).fetch_optional(c))?;
    if old.as_ref() == Some(&keys.keys) {
        return Ok(false);
    }
    if old.is_some() {
        let device_id = keys.device_id.clone();
        execute!(tx, sql::query(FORGET).bind(keys.user.0).bind(device_id))?;
    }
    execute!(
        tx,
        sql::query(PUT).bind(keys.device.0).bind(keys.user.0).bind(keys.device_id).bind(keys.keys)
    )?;
    Ok(true)
}

/// Returns the identity keys of every device of `users`.
///
/// # Errors
/// When the database fails.
pub async fn of_users(db: &Database, users: &[UserNid]) -> Result<Vec<NamedDeviceKeys>> {
    const FIND: &str = "SELECT k.user_nid, k.device_id, k.device_nid, k.keys, d.display_name \
         FROM device_keys k LEFT JOIN devices d ON d.device_nid = k.device_nid \
         WHERE k.user_nid IN {INTS 1} ORDER BY k.user_nid, k.device_id";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<(i64, String, i64, String, Option<String>)> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for (user, device_id, device, keys, display_name) in rows {
            let (user, device) = (UserNid(user), DeviceNid(device));
            let keys = DeviceKeys { user, device_id, device, keys };
            found.push(NamedDeviceKeys { keys, display_name });
        }
    }
    Ok(found)
}

/// Returns the signatures on keys of `users` that `viewer` may see: each user's own, and the
/// viewer's.
///
/// # Errors
/// When the database fails.
pub async fn signatures(
    db: &Database,
    users: &[UserNid],
    viewer: UserNid,
) -> Result<Vec<Signature>> {
    const FIND: &str = "SELECT target_nid, target_key, signer_nid, signer_key, signature \
         FROM key_signatures WHERE target_nid IN {INTS 1} \
         AND (signer_nid = target_nid OR signer_nid = $2)";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<(i64, String, i64, String, String)> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql)
                .bind(list)
                .bind(viewer.0)
                .fetch_all(c))?;
        let rows = rows.into_iter();
        found.extend(rows.map(|(target, target_key, signer, signer_key, signature)| Signature {
            target: UserNid(target),
            target_key,
            signer: UserNid(signer),
            signer_key,
            signature,
        }));
    }
    Ok(found)
}

/// Refuses it when a user has signed more than `quota`. To be called after the last signature.
///
/// # Errors
/// [`StorageError::Full`](crate::StorageError::Full); when the database fails.
pub async fn require_signed_within(tx: &mut Tx, signer: UserNid, quota: &Quota) -> Result<()> {
    const SIGNED: &str = "SELECT count(*) FROM key_signatures WHERE signer_nid = $1";
    let signed: i64 = run!(tx, |c| sql::query_scalar(SIGNED).bind(signer.0).fetch_one(c))?;
    quota.require(signed, 0)
}

/// A device's key or a cross-signing key as it was read: what was decided from it is right while it is
/// still the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyAsRead {
    /// Whose it is.
    pub user: UserNid,
    /// The device's id, or the public key of a cross-signing key.
    pub name: String,
    /// Canonical JSON as it is stored.
    pub text: String,
}

/// Tells whether a key is still as it was read.
///
/// # Errors
/// When the database fails.
pub async fn stands(tx: &mut Tx, key: &KeyAsRead) -> Result<bool> {
    const DEVICE: &str = "SELECT count(*) FROM device_keys \
         WHERE user_nid = $1 AND device_id = $2 AND keys = $3";
    const CROSS_SIGNING: &str = "SELECT count(*) FROM cross_signing_keys \
         WHERE user_nid = $1 AND public_key = $2 AND key = $3";
    for text in [DEVICE, CROSS_SIGNING] {
        let found: i64 = run!(tx, |c| sql::query_scalar(text)
            .bind(key.user.0)
            .bind(key.name.clone())
            .bind(key.text.clone())
            .fetch_one(c))?;
        if found > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns those of some names of keys that are devices of a user.
///
/// # Errors
/// When the database fails.
pub async fn names_among(tx: &mut Tx, user: UserNid, names: &[String]) -> Result<Vec<String>> {
    const NAMES: &str = "SELECT device_id FROM device_keys WHERE user_nid = $1 ORDER BY device_id";
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut found: Vec<String> = run!(tx, |c| sql::query_scalar(NAMES).bind(user.0).fetch_all(c))?;
    found.retain(|name| names.contains(name));
    Ok(found)
}

/// Stores a signature and tells whether it is new.
///
/// # Errors
/// When the database fails.
pub async fn sign(tx: &mut Tx, signature: Signature) -> Result<bool> {
    const PUT: &str = "INSERT INTO key_signatures \
         (target_nid, target_key, signer_nid, signer_key, signature) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (target_nid, target_key, signer_nid, signer_key) \
         DO UPDATE SET signature = excluded.signature \
         WHERE key_signatures.signature <> excluded.signature";
    let rows = execute!(
        tx,
        sql::query(PUT)
            .bind(signature.target.0)
            .bind(signature.target_key)
            .bind(signature.signer.0)
            .bind(signature.signer_key)
            .bind(signature.signature)
    )?;
    Ok(rows > 0)
}
