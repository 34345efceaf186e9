//! Tokens, as hashes only: access and refresh tokens of devices, login tokens and OpenID tokens of
//! users. The tokens themselves are never seen here.

use colonnade_model::{
    nid::{DeviceNid, UserNid},
    ruma::{OwnedDeviceId, OwnedUserId, UserId},
    session::Restriction,
};

use futures_util::TryFutureExt as _;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    delivery::to_device,
    error::{Result, StorageError},
};

/// The hash a token is stored as.
pub type TokenHash = [u8; 32];

/// What an access token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// The user.
    pub user: UserNid,
    /// The user's name.
    pub user_id: OwnedUserId,
    /// The device.
    pub device: DeviceNid,
    /// The device's name.
    pub device_id: OwnedDeviceId,
    /// When the token expires, in milliseconds since the Unix epoch; `None` for never.
    pub expires_ts: Option<i64>,
    /// The refresh token that dies when this token is first used.
    pub replaces: Option<TokenHash>,
    /// The user is a guest.
    pub is_guest: bool,
    /// What the user is kept from.
    pub restriction: Restriction,
}

/// A new access token, with its refresh token if there is one.
#[derive(Debug, Clone, Copy)]
pub struct NewTokens {
    /// The device they are for.
    pub device: DeviceNid,
    /// The access token.
    pub access: TokenHash,
    /// When the access token expires, in milliseconds since the Unix epoch; `None` for never.
    pub expires_ts: Option<i64>,
    /// The refresh token.
    pub refresh: Option<TokenHash>,
    /// The refresh token that dies when one of the two is first used.
    pub replaces: Option<TokenHash>,
}

/// Stores new tokens.
///
/// # Errors
/// When the database fails.
pub async fn insert(tx: &mut Tx, tokens: NewTokens) -> Result<()> {
    const ACCESS: &str = "INSERT INTO access_tokens (hash, device_nid, expires_ts, replaces) \
         VALUES ($1, $2, $3, $4)";
    const REFRESH: &str =
        "INSERT INTO refresh_tokens (hash, device_nid, replaces) VALUES ($1, $2, $3)";
    let replaces = tokens.replaces.map(|hash| hash.to_vec());
    execute!(
        tx,
        sql::query(ACCESS)
            .bind(tokens.access.to_vec())
            .bind(tokens.device.0)
            .bind(tokens.expires_ts)
            .bind(replaces.clone())
    )?;
    if let Some(refresh) = tokens.refresh {
        execute!(
            tx,
            sql::query(REFRESH).bind(refresh.to_vec()).bind(tokens.device.0).bind(replaces)
        )?;
    }
    Ok(())
}

/// Says what a user is kept from: the lock is the stronger.
fn restriction(locked: i64, suspended: i64) -> Restriction {
    match (locked, suspended) {
        (0, 0) => Restriction::None,
        (0, _) => Restriction::Suspended,
        _ => Restriction::Locked,
    }
}

/// Returns what an access token stands for, expired or not; nothing once the account is closed, even
/// if somebody logged in while it was.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, access: TokenHash) -> Result<Option<SessionRow>> {
    const FIND: &str = "SELECT d.user_nid, u.user_id, d.device_nid, d.device_id, t.expires_ts, \
         t.replaces, a.guest, a.locked, a.suspended FROM access_tokens t \
         JOIN devices d ON d.device_nid = t.device_nid \
         JOIN accounts a ON a.user_nid = d.user_nid AND a.deactivated = 0 \
         JOIN users u ON u.user_nid = d.user_nid WHERE t.hash = $1";
    type Row = (i64, String, i64, String, Option<i64>, Option<Vec<u8>>, i64, i64, i64);
    let row: Option<Row> =
        read!(db, |c| sql::query_as(FIND).bind(access.to_vec()).fetch_optional(c))?;
    let Some(row) = row else { return Ok(None) };
    let (user, user_id, device, device_id, expires_ts, replaces, guest, locked, suspended) = row;
    let user_id = UserId::parse(&user_id)
        .map_err(|error| StorageError::corrupt("users", "user_id", user, error))?;
    let replaces = replaces.map(|bytes| hash_of("access_tokens", device, bytes)).transpose()?;
    Ok(Some(SessionRow {
        user: UserNid(user),
        user_id,
        device: DeviceNid(device),
        device_id: device_id.into(),
        expires_ts,
        replaces,
        is_guest: guest != 0,
        restriction: restriction(locked, suspended),
    }))
}

/// Returns the device a refresh token belongs to, and the older refresh token it replaces.
///
/// # Errors
/// When the database fails.
pub async fn find_refresh(
    db: &Database,
    refresh: TokenHash,
) -> Result<Option<(DeviceNid, UserNid, Option<TokenHash>)>> {
    const FIND: &str = "SELECT d.device_nid, d.user_nid, t.replaces FROM refresh_tokens t \
         JOIN devices d ON d.device_nid = t.device_nid \
         JOIN accounts a ON a.user_nid = d.user_nid AND a.deactivated = 0 WHERE t.hash = $1";
    let row: Option<(i64, i64, Option<Vec<u8>>)> =
        read!(db, |c| sql::query_as(FIND).bind(refresh.to_vec()).fetch_optional(c))?;
    let Some((device, user, replaces)) = row else { return Ok(None) };
    let replaces = replaces.map(|bytes| hash_of("refresh_tokens", device, bytes)).transpose()?;
    Ok(Some((DeviceNid(device), UserNid(user), replaces)))
}

/// Makes sure a refresh token still exists and forgets the tokens an earlier, unused answer to it
/// brought. Returns the access tokens that died, `None` when the refresh token is gone.
///
/// # Errors
/// When the database fails.
pub async fn claim_refresh(tx: &mut Tx, refresh: TokenHash) -> Result<Option<Vec<TokenHash>>> {
    const CLAIM: &str = "UPDATE refresh_tokens SET device_nid = device_nid WHERE hash = $1 \
         RETURNING device_nid";
    const ACCESS: &str =
        "DELETE FROM access_tokens WHERE device_nid = $1 AND replaces = $2 RETURNING hash";
    const REFRESH: &str = "DELETE FROM refresh_tokens WHERE device_nid = $1 AND replaces = $2";
    let claimed: Option<i64> =
        run!(tx, |c| sql::query_scalar(CLAIM).bind(refresh.to_vec()).fetch_optional(c))?;
    let Some(device) = claimed else { return Ok(None) };
    let dead: Vec<Vec<u8>> =
        run!(tx, |c| sql::query_scalar(ACCESS).bind(device).bind(refresh.to_vec()).fetch_all(c))?;
    execute!(tx, sql::query(REFRESH).bind(device).bind(refresh.to_vec()))?;
    if !dead.is_empty() {
        to_device::forget(tx, DeviceNid(device)).await?;
    }
    let dead = dead.into_iter().map(|bytes| hash_of("access_tokens", device, bytes));
    dead.collect::<Result<_>>().map(Some)
}

/// Ends the life of a replaced refresh token and of every access token of the device that came
/// before the one that replaces it. Returns the access tokens that died.
///
/// # Errors
/// When the database fails.
pub async fn retire(tx: &mut Tx, device: DeviceNid, replaced: TokenHash) -> Result<Vec<TokenHash>> {
    const ACCESS: &str = "DELETE FROM access_tokens WHERE device_nid = $1 AND \
         (replaces IS NULL OR replaces <> $2) RETURNING hash";
    const REFRESH: &str = "DELETE FROM refresh_tokens WHERE hash = $1";
    const SETTLE_ACCESS: &str = "UPDATE access_tokens SET replaces = NULL WHERE device_nid = $1";
    const SETTLE_REFRESH: &str = "UPDATE refresh_tokens SET replaces = NULL WHERE device_nid = $1";
    // Requests that come together with a new token all see that it replaces another: the first one
    // here does the work, and would otherwise be undone by the second.
    if execute!(tx, sql::query(REFRESH).bind(replaced.to_vec()))? == 0 {
        return Ok(Vec::new());
    }
    let dead: Vec<Vec<u8>> = run!(tx, |c| sql::query_scalar(ACCESS)
        .bind(device.0)
        .bind(replaced.to_vec())
        .fetch_all(c))?;
    execute!(tx, sql::query(SETTLE_ACCESS).bind(device.0))?;
    execute!(tx, sql::query(SETTLE_REFRESH).bind(device.0))?;
    if !dead.is_empty() {
        to_device::forget(tx, device).await?;
    }
    dead.into_iter().map(|bytes| hash_of("access_tokens", device.0, bytes)).collect()
}

/// Forgets every token of these devices, and every login token made by them. Returns the access tokens
/// that died.
///
/// # Errors
/// When the database fails.
pub async fn revoke(tx: &mut Tx, devices: &[DeviceNid]) -> Result<Vec<TokenHash>> {
    const ACCESS: &str = "DELETE FROM access_tokens WHERE device_nid IN {INTS 1} RETURNING hash";
    const REFRESH: &str = "DELETE FROM refresh_tokens WHERE device_nid IN {INTS 1}";
    const LOGIN: &str = "DELETE FROM login_tokens WHERE device_nid IN {INTS 1}";
    let list = int_list(devices.iter().map(|device| device.0));
    let dead: Vec<Vec<u8>> =
        run_list!(tx, ACCESS, |sql, c| sql::query_scalar(sql).bind(list.clone()).fetch_all(c))?;
    run_list!(tx, REFRESH, |sql, c| sql::query(sql).bind(list.clone()).execute(c).map_ok(drop))?;
    run_list!(tx, LOGIN, |sql, c| sql::query(sql).bind(list).execute(c).map_ok(drop))?;
    if !dead.is_empty() {
        for device in devices {
            to_device::forget(tx, *device).await?;
        }
    }
    dead.into_iter().map(|bytes| hash_of("access_tokens", "?", bytes)).collect()
}

/// A token that logs a user in once.
#[derive(Debug, Clone, Copy)]
pub struct LoginToken {
    /// The token.
    pub hash: TokenHash,
    /// Whom it logs in.
    pub user: UserNid,
    /// The device that made it, with whose session it dies.
    pub device: DeviceNid,
    /// When it expires, in milliseconds since the Unix epoch.
    pub expires_ts: i64,
}

/// Stores a token that logs a user in once, and forgets those that expired; false when the device that
/// makes it is gone.
///
/// # Errors
/// When the database fails.
pub async fn insert_login_token(tx: &mut Tx, token: LoginToken, now_ms: i64) -> Result<bool> {
    const FORGET: &str = "DELETE FROM login_tokens WHERE expires_ts < $1";
    const LIVES: &str = "SELECT device_nid FROM devices WHERE user_nid = $1 AND device_nid = $2";
    const INSERT: &str = "INSERT INTO login_tokens (hash, user_nid, device_nid, expires_ts) \
         VALUES ($1, $2, $3, $4)";
    execute!(tx, sql::query(FORGET).bind(now_ms))?;
    let lives: Option<i64> = run!(tx, |c| sql::query_scalar(LIVES)
        .bind(token.user.0)
        .bind(token.device.0)
        .fetch_optional(c))?;
    if lives.is_none() {
        return Ok(false);
    }
    execute!(
        tx,
        sql::query(INSERT)
            .bind(token.hash.to_vec())
            .bind(token.user.0)
            .bind(token.device.0)
            .bind(token.expires_ts)
    )?;
    Ok(true)
}

/// Forgets a user's login tokens but the `count_max` newest.
///
/// # Errors
/// When the database fails.
pub async fn keep_login_tokens(tx: &mut Tx, user: UserNid, count_max: i64) -> Result<()> {
    const BEYOND: &str = "DELETE FROM login_tokens WHERE hash IN (SELECT hash FROM login_tokens \
         WHERE user_nid = $1 ORDER BY expires_ts DESC, hash LIMIT 1000000 OFFSET $2)";
    execute!(tx, sql::query(BEYOND).bind(user.0).bind(count_max)).map(drop)
}

/// Uses a login token up and returns its user, unless it expired or was used before.
///
/// # Errors
/// When the database fails.
pub async fn take_login_token(
    tx: &mut Tx,
    token: TokenHash,
    now_ms: i64,
) -> Result<Option<UserNid>> {
    const TAKE: &str = "DELETE FROM login_tokens WHERE hash = $1 RETURNING user_nid, expires_ts";
    let row: Option<(i64, i64)> =
        run!(tx, |c| sql::query_as(TAKE).bind(token.to_vec()).fetch_optional(c))?;
    Ok(row.filter(|(_, expires_ts)| *expires_ts > now_ms).map(|(user, _)| UserNid(user)))
}

/// Forgets the login tokens of a user.
///
/// # Errors
/// When the database fails.
pub async fn revoke_login_tokens(tx: &mut Tx, user: UserNid) -> Result<()> {
    const FORGET: &str = "DELETE FROM login_tokens WHERE user_nid = $1";
    execute!(tx, sql::query(FORGET).bind(user.0)).map(drop)
}

/// Stores a token by which a third party can ask who a user is, and forgets those that expired, and
/// the user's own oldest ones beyond `count_max`.
///
/// # Errors
/// When the database fails.
pub async fn insert_openid_token(
    tx: &mut Tx,
    token: TokenHash,
    user: UserNid,
    expires_ts: i64,
    now_ms: i64,
    count_max: i64,
) -> Result<()> {
    const BEYOND: &str = "DELETE FROM openid_tokens WHERE hash IN (SELECT hash FROM openid_tokens \
         WHERE user_nid = $1 ORDER BY expires_ts DESC, hash LIMIT 1000000 OFFSET $2)";
    const FORGET: &str = "DELETE FROM openid_tokens WHERE expires_ts < $1";
    const INSERT: &str =
        "INSERT INTO openid_tokens (hash, user_nid, expires_ts) VALUES ($1, $2, $3)";
    execute!(tx, sql::query(FORGET).bind(now_ms))?;
    execute!(tx, sql::query(INSERT).bind(token.to_vec()).bind(user.0).bind(expires_ts))?;
    execute!(tx, sql::query(BEYOND).bind(user.0).bind(count_max))?;
    Ok(())
}

/// Returns whom an OpenID token stands for, unless it expired.
///
/// # Errors
/// When the database fails.
pub async fn find_openid_token(
    db: &Database,
    token: TokenHash,
    now_ms: i64,
) -> Result<Option<UserNid>> {
    const FIND: &str = "SELECT user_nid FROM openid_tokens WHERE hash = $1 AND expires_ts > $2";
    let user: Option<i64> =
        read!(db, |c| sql::query_scalar(FIND).bind(token.to_vec()).bind(now_ms).fetch_optional(c))?;
    Ok(user.map(UserNid))
}

fn hash_of(table: &'static str, key: impl ToString, bytes: Vec<u8>) -> Result<TokenHash> {
    let length = bytes.len();
    bytes
        .try_into()
        .map_err(|_| StorageError::corrupt(table, "hash", key, format!("{length} bytes, not 32")))
}

#[cfg(test)]
mod tests;
