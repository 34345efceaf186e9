//! Key backup: versions of a user's backup, and in each the encrypted room keys. Version numbers are
//! never used twice; an etag counts the changes of a version's keys. What all of a user's versions hold
//! is bounded (`key_backup/sizes.rs`).

mod sizes;

pub use sizes::Scope;

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result, quota::Quota};
use sizes::Size;

/// Keys per INSERT: eight parameters each, below the 32,766 of the stricter engine.
const INSERT_ROWS: usize = 200;
/// Deleted versions that are told at a time; the rest is asked for when these are empty.
const UNEMPTIED_MAX: i64 = 100;

/// What describes a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number, counting from 1 per user.
    pub version: i64,
    /// How the keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs, as JSON.
    pub auth_data: String,
    /// How often its keys were changed.
    pub etag: i64,
}

/// An encrypted room key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomKey {
    /// The room it is for.
    pub room_id: String,
    /// The session it is for.
    pub session_id: String,
    /// The first message it can decrypt.
    pub first_message_index: i64,
    /// How often it was passed on.
    pub forwarded_count: i64,
    /// It came from a verified device.
    pub is_verified: bool,
    /// The encrypted key, as JSON.
    pub session_data: String,
}

/// What a version holds after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// How often its keys were changed.
    pub etag: i64,
    /// How many keys it holds.
    pub count: i64,
}

const COUNT: &str = "SELECT CAST(count(*) AS BIGINT) FROM backup_keys \
     WHERE user_nid = $1 AND version = $2";
const CURRENT: &str = "SELECT version, algorithm, auth_data, etag FROM backup_versions \
     WHERE user_nid = $1 AND deleted = 0 ORDER BY version DESC LIMIT 1";

type VersionRow = (i64, String, String, i64);

fn version_of((version, algorithm, auth_data, etag): VersionRow) -> Version {
    Version { version, algorithm, auth_data, etag }
}

/// What a user may keep in backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupQuota {
    /// Versions that are not deleted.
    pub versions: Quota,
    /// Keys in all of them.
    pub keys: Quota,
}

/// Starts a new version and returns its number. Of the deleted ones are remembered the newest, and those
/// that are not emptied yet.
///
/// # Errors
/// [`StorageError::Full`](crate::StorageError::Full) when the user has as many as `quota` allows; when
/// the database fails.
pub async fn create(
    tx: &mut Tx,
    user: UserNid,
    algorithm: String,
    auth_data: String,
    quota: &BackupQuota,
) -> Result<i64> {
    const LIVE: &str = "SELECT count(*) FROM backup_versions WHERE user_nid = $1 AND deleted = 0";
    const FORGET: &str = "DELETE FROM backup_versions WHERE user_nid = $1 AND deleted = 1 \
         AND version < (SELECT MAX(version) FROM backup_versions WHERE user_nid = $1) \
         AND NOT EXISTS (SELECT 1 FROM backup_keys k WHERE k.user_nid = backup_versions.user_nid \
             AND k.version = backup_versions.version)";
    const INSERT: &str = "INSERT INTO backup_versions \
         (user_nid, version, algorithm, auth_data, etag, deleted) \
         SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3, 0, 0 FROM backup_versions \
         WHERE user_nid = $1 RETURNING version";
    let live: i64 = run!(tx, |c| sql::query_scalar(LIVE).bind(user.0).fetch_one(c))?;
    quota.versions.require(live + 1, 0)?;
    execute!(tx, sql::query(FORGET).bind(user.0))?;
    run!(tx, |c| sql::query_scalar(INSERT)
        .bind(user.0)
        .bind(algorithm)
        .bind(auth_data)
        .fetch_one(c))
}

/// Returns the newest version that is not deleted.
///
/// # Errors
/// When the database fails.
pub async fn current(db: &Database, user: UserNid) -> Result<Option<Version>> {
    let row: Option<VersionRow> =
        read!(db, |c| sql::query_as(CURRENT).bind(user.0).fetch_optional(c))?;
    Ok(row.map(version_of))
}

/// Returns the newest version that is not deleted, inside a transaction.
///
/// # Errors
/// When the database fails.
pub async fn current_in(tx: &mut Tx, user: UserNid) -> Result<Option<Version>> {
    let row: Option<VersionRow> =
        run!(tx, |c| sql::query_as(CURRENT).bind(user.0).fetch_optional(c))?;
    Ok(row.map(version_of))
}

/// Returns a version that is not deleted.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, user: UserNid, version: i64) -> Result<Option<Version>> {
    const FIND: &str = "SELECT version, algorithm, auth_data, etag FROM backup_versions \
         WHERE user_nid = $1 AND version = $2 AND deleted = 0";
    let row: Option<VersionRow> =
        read!(db, |c| sql::query_as(FIND).bind(user.0).bind(version).fetch_optional(c))?;
    Ok(row.map(version_of))
}

/// Replaces what the algorithm needs; false when there is no such version with that algorithm.
///
/// # Errors
/// When the database fails.
pub async fn update(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    algorithm: String,
    auth_data: String,
) -> Result<bool> {
    const UPDATE: &str = "UPDATE backup_versions SET auth_data = $4 \
         WHERE user_nid = $1 AND version = $2 AND algorithm = $3 AND deleted = 0";
    let rows = execute!(
        tx,
        sql::query(UPDATE).bind(user.0).bind(version).bind(algorithm).bind(auth_data)
    )?;
    Ok(rows > 0)
}

/// Deletes a version: nobody finds it any more; false when there never was such a version. A deleted one
/// may be deleted again. Its keys go by [`empty`].
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, user: UserNid, version: i64) -> Result<bool> {
    const MARK: &str = "UPDATE backup_versions SET deleted = 1, auth_data = '{}' \
         WHERE user_nid = $1 AND version = $2";
    const NEWEST: &str =
        "SELECT COALESCE(MAX(version), 0) FROM backup_versions WHERE user_nid = $1";
    let rows = execute!(tx, sql::query(MARK).bind(user.0).bind(version))?;
    let newest: i64 = run!(tx, |c| sql::query_scalar(NEWEST).bind(user.0).fetch_one(c))?;
    Ok(rows > 0 || (1..newest).contains(&version))
}

/// Returns some versions that are deleted and still hold keys: of a user, or of all.
///
/// # Errors
/// When the database fails.
pub async fn unemptied(db: &Database, user: Option<UserNid>) -> Result<Vec<(UserNid, i64)>> {
    const UNEMPTIED: &str = "SELECT v.user_nid, v.version FROM backup_versions v \
         WHERE v.deleted = 1 AND ($1 = 0 OR v.user_nid = $1) AND EXISTS (SELECT 1 \
             FROM backup_keys k WHERE k.user_nid = v.user_nid AND k.version = v.version) LIMIT $2";
    let user = user.map_or(0, |user| user.0);
    let rows: Vec<(i64, i64)> =
        read!(db, |c| sql::query_as(UNEMPTIED).bind(user).bind(UNEMPTIED_MAX).fetch_all(c))?;
    Ok(rows.into_iter().map(|(user, version)| (UserNid(user), version)).collect())
}

/// Deletes at most `limit` keys of a deleted version; fewer are the last.
///
/// # Errors
/// When the database fails.
pub async fn empty(tx: &mut Tx, user: UserNid, version: i64, limit: i64) -> Result<u64> {
    const DELETED: &str = "SELECT count(*) FROM backup_versions \
         WHERE user_nid = $1 AND version = $2 AND deleted = 1";
    const SIZE: &str = "DELETE FROM backup_sizes WHERE user_nid = $1 AND version = $2";
    let deleted: i64 =
        run!(tx, |c| sql::query_scalar(DELETED).bind(user.0).bind(version).fetch_one(c))?;
    if deleted == 0 {
        return Ok(0);
    }
    let gone = sizes::remove(tx, user, version, &Scope::All, limit).await?;
    if gone.keys < limit {
        execute!(tx, sql::query(SIZE).bind(user.0).bind(version))?;
    }
    Ok(u64::try_from(gone.keys).unwrap_or(0))
}

/// Returns how many keys a version holds.
///
/// # Errors
/// When the database fails.
pub async fn count(db: &Database, user: UserNid, version: i64) -> Result<i64> {
    read!(db, |c| sql::query_scalar(COUNT).bind(user.0).bind(version).fetch_one(c))
}

/// Stores keys, each unless a better one is stored: one from a verified device is better, then one
/// with a lower first message, then one passed on less often. No two of `keys` may be for the same
/// session.
///
/// Source: Matrix v1.19, client-server, "Server-side key backups", "Storing keys".
///
/// # Errors
/// [`StorageError::Full`](crate::StorageError::Full) when all backups of the user would hold more than
/// `quota`; when the database fails.
pub async fn put(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    mut keys: Vec<RoomKey>,
    quota: &BackupQuota,
) -> Result<Contents> {
    let was = sizes::of(tx, user, version).await?;
    let mut size = was;
    let mut changed = 0;
    while !keys.is_empty() {
        let rest = keys.split_off(keys.len().min(INSERT_ROWS));
        let names: Vec<_> =
            keys.iter().map(|key| (key.room_id.clone(), key.session_id.clone())).collect();
        size = size - sizes::of_keys(tx, user, version, &names).await?;
        changed += put_some(tx, user, version, keys).await?;
        size = size + sizes::of_keys(tx, user, version, &names).await?;
        keys = rest;
    }
    if size.keys > was.keys || size.bytes > was.bytes {
        let others = sizes::of_others(tx, user, version).await?;
        let all = size + others;
        quota.keys.require(all.keys, all.bytes)?;
    }
    contents(tx, user, version, changed > 0, size).await
}

async fn put_some(tx: &mut Tx, user: UserNid, version: i64, keys: Vec<RoomKey>) -> Result<u64> {
    const BETTER: &str = " ON CONFLICT (user_nid, version, room_id, session_id) DO UPDATE SET \
         first_message_index = excluded.first_message_index, \
         forwarded_count = excluded.forwarded_count, is_verified = excluded.is_verified, \
         session_data = excluded.session_data \
         WHERE excluded.is_verified > backup_keys.is_verified \
         OR (excluded.is_verified = backup_keys.is_verified \
         AND (excluded.first_message_index < backup_keys.first_message_index \
         OR (excluded.first_message_index = backup_keys.first_message_index \
         AND excluded.forwarded_count < backup_keys.forwarded_count)))";
    let mut sql = String::from(
        "INSERT INTO backup_keys (user_nid, version, room_id, session_id, \
         first_message_index, forwarded_count, is_verified, session_data) VALUES ",
    );
    for n in 0..keys.len() {
        let comma = if n == 0 { "" } else { ", " };
        let params: Vec<String> = (1..=8).map(|place| format!("${}", 8 * n + place)).collect();
        sql.push_str(&format!("{comma}({})", params.join(", ")));
    }
    sql.push_str(BETTER);
    execute!(tx, {
        let mut query = sql::query(sqlx::AssertSqlSafe(sql));
        for key in keys {
            query = query
                .bind(user.0)
                .bind(version)
                .bind(key.room_id)
                .bind(key.session_id)
                .bind(key.first_message_index)
                .bind(key.forwarded_count)
                .bind(i64::from(key.is_verified))
                .bind(key.session_data);
        }
        query
    })
}

/// Deletes at most `limit` keys of a version, and returns what it holds then and whether there may be
/// more.
///
/// # Errors
/// When the database fails.
pub async fn remove(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    scope: Scope,
    limit: i64,
) -> Result<(Contents, bool)> {
    let was = sizes::of(tx, user, version).await?;
    let gone = sizes::remove(tx, user, version, &scope, limit).await?;
    let contents = contents(tx, user, version, gone.keys > 0, was - gone).await?;
    Ok((contents, gone.keys == limit))
}

/// Returns at most `limit` keys of a version after the one named by room and session, in that order;
/// from the beginning with empty names.
///
/// # Errors
/// When the database fails.
pub async fn keys(
    db: &Database,
    user: UserNid,
    version: i64,
    scope: Scope,
    after: (String, String),
    limit: i64,
) -> Result<Vec<RoomKey>> {
    const ALL: &str = "SELECT room_id, session_id, first_message_index, forwarded_count, \
         is_verified, session_data FROM backup_keys WHERE user_nid = $1 AND version = $2 \
         AND (room_id, session_id) > ($3, $4) ORDER BY room_id, session_id LIMIT $5";
    const ROOM: &str = "SELECT room_id, session_id, first_message_index, forwarded_count, \
         is_verified, session_data FROM backup_keys \
         WHERE user_nid = $1 AND version = $2 AND room_id = $3 \
         AND session_id > $4 ORDER BY session_id LIMIT $5";
    const SESSION: &str = "SELECT room_id, session_id, first_message_index, forwarded_count, \
         is_verified, session_data FROM backup_keys \
         WHERE user_nid = $1 AND version = $2 AND room_id = $3 AND session_id = $4";
    let rows: Vec<(String, String, i64, i64, i64, String)> = match scope {
        Scope::All => read!(db, |c| sql::query_as(ALL)
            .bind(user.0)
            .bind(version)
            .bind(after.0)
            .bind(after.1)
            .bind(limit)
            .fetch_all(c))?,
        Scope::Room(room) => read!(db, |c| sql::query_as(ROOM)
            .bind(user.0)
            .bind(version)
            .bind(room)
            .bind(after.1)
            .bind(limit)
            .fetch_all(c))?,
        Scope::Session(room, session) => read!(db, |c| sql::query_as(SESSION)
            .bind(user.0)
            .bind(version)
            .bind(room)
            .bind(session)
            .fetch_all(c))?,
    };
    let keys =
        rows.into_iter().map(|(room_id, session_id, first, forwarded, verified, data)| RoomKey {
            room_id,
            session_id,
            first_message_index: first,
            forwarded_count: forwarded,
            is_verified: verified != 0,
            session_data: data,
        });
    Ok(keys.collect())
}

/// Counts a change, if there was one, and returns what the version holds now.
async fn contents(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    changed: bool,
    size: Size,
) -> Result<Contents> {
    const ETAG: &str = "UPDATE backup_versions SET etag = etag + $3 \
         WHERE user_nid = $1 AND version = $2 RETURNING etag";
    let etag: i64 = run!(tx, |c| sql::query_scalar(ETAG)
        .bind(user.0)
        .bind(version)
        .bind(i64::from(changed))
        .fetch_one(c))?;
    sizes::note(tx, user, version, etag, size).await?;
    Ok(Contents { etag, count: size.keys })
}
