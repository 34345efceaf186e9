//! Key backup: the encrypted room keys a user keeps on the server, in versions of which only the
//! newest takes keys. The server never sees a key; it keeps the better of two for the same session.
//!
//! Source: Matrix v1.19, client-server, "Server-side key backups".

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{
        OwnedRoomId, RoomId, UInt,
        api::client::backup::{BackupAlgorithm, KeyBackupData, RoomKeyBackup},
        serde::Raw,
    },
};
use colonnade_replication::slots::Right;
use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::{
    StorageError, Tx,
    database::stored_json,
    keys::key_backup::{self, Contents, RoomKey, Version},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use colonnade_storage::keys::key_backup::Scope;

/// Bytes of what describes a version: a public key and a signature per device.
const AUTH_DATA_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one encrypted key: about a thousand are used.
const SESSION_DATA_BYTES_MAX: usize = 16 * 1024;
/// Characters of an algorithm, room or session id.
const NAME_LEN_MAX: usize = 255;
/// Keys read at a time: 3 MB at most, a quarter usually.
const PAGE_KEYS: i64 = 200;
/// Keys deleted in one transaction: some milliseconds, in which nobody else writes.
const PIECE_KEYS: i64 = 1_000;
/// The largest number JSON of the specification can carry.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Backups of room keys.
pub struct KeyBackup {
    context: Arc<Context>,
}

/// A version as clients are told it.
#[derive(Debug, Clone)]
pub struct BackupInfo {
    /// `algorithm` and `auth_data`.
    pub algorithm: Raw<BackupAlgorithm>,
    /// How many keys it holds.
    pub count: UInt,
    /// Changes with every change of its keys.
    pub etag: String,
    /// Its number.
    pub version: String,
}

/// What a version holds after a change.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Changes with every change of its keys.
    pub etag: String,
    /// How many keys it holds.
    pub count: UInt,
}

/// The keys of a backup, by room and session.
pub type Rooms = BTreeMap<OwnedRoomId, RoomKeyBackup>;

#[derive(Deserialize)]
struct Described {
    algorithm: String,
    auth_data: Box<RawValue>,
    version: Option<String>,
}

#[derive(Serialize)]
struct Description<'d> {
    algorithm: &'d str,
    auth_data: &'d RawValue,
}

#[derive(Serialize, Deserialize)]
struct KeyData {
    first_message_index: u64,
    forwarded_count: u64,
    is_verified: bool,
    session_data: Box<RawValue>,
}

/// A key of a backup as a client gets it.
#[derive(Debug, Clone)]
pub struct Backed {
    /// The room it is for.
    pub room_id: String,
    /// The session it is for.
    pub session_id: String,
    /// The key, as JSON.
    pub json: String,
}

/// Reads the keys of a version in the order of rooms and sessions. One page is in memory at a time,
/// however many there are.
pub struct Reader {
    context: Arc<Context>,
    user: UserNid,
    version: i64,
    scope: Scope,
    /// Where the next page begins; `None` after the last.
    after: Option<(String, String)>,
}

impl Reader {
    /// Returns the next page; an empty one is the end.
    ///
    /// # Errors
    /// When the database fails or holds what is not JSON.
    pub async fn page(&mut self) -> Result<Vec<Backed>> {
        let Some(after) = self.after.take() else { return Ok(Vec::new()) };
        let (db, scope) = (&self.context.db, self.scope.clone());
        let keys = key_backup::keys(db, self.user, self.version, scope, after, PAGE_KEYS).await?;
        let is_last = i64::try_from(keys.len()).is_ok_and(|count| count < PAGE_KEYS);
        if !is_last {
            let last = keys.last();
            self.after = last.map(|last| (last.room_id.clone(), last.session_id.clone()));
        }
        keys.into_iter().map(|key| self.backed(key)).collect()
    }

    fn backed(&self, key: RoomKey) -> Result<Backed> {
        let corrupt = |why: String| {
            let place =
                format!("{} {} {} {}", self.user, self.version, key.room_id, key.session_id);
            StorageError::corrupt("backup_keys", "session_data", place, why)
        };
        let session_data = stored_json::readable(key.session_data.clone(), "backup_keys");
        let data = KeyData {
            first_message_index: key.first_message_index.unsigned_abs(),
            forwarded_count: key.forwarded_count.unsigned_abs(),
            is_verified: key.is_verified,
            session_data,
        };
        let json = serde_json::to_string(&data).map_err(|error| corrupt(error.to_string()))?;
        Ok(Backed { room_id: key.room_id, session_id: key.session_id, json })
    }
}

/// What an attempt to change keys came to, decided inside the transaction.
enum Attempt {
    Done(Contents),
    NoVersion,
    NotCurrent(i64),
}

impl KeyBackup {
    /// Works on the database of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Starts a version and returns its number.
    ///
    /// # Errors
    /// `M_BAD_JSON` when it is malformed, `M_FORBIDDEN` when the user has as many as it may.
    pub async fn create(&self, user: UserNid, described: &Raw<BackupAlgorithm>) -> Result<String> {
        let Described { algorithm, auth_data, .. } = parse(described)?;
        let auth_data = String::from(Box::<str>::from(auth_data));
        // What an interrupted deletion left would count.
        self.empty(Some(user), None).await?;
        let quota = self.context.settings.limits.backup();
        let created = self.context.db.write(move |tx| {
            Box::pin(
                async move { key_backup::create(tx, user, algorithm, auth_data, &quota).await },
            )
        });
        Ok(created.await?.to_string())
    }

    /// Returns the newest version.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is none.
    pub async fn latest(&self, user: UserNid) -> Result<BackupInfo> {
        let version = key_backup::current(&self.context.db, user).await?;
        let version = version.ok_or_else(|| MatrixError::not_found("no current backup version"))?;
        self.info(user, version).await
    }

    /// Returns a version.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such version.
    pub async fn get(&self, user: UserNid, version: &str) -> Result<BackupInfo> {
        let version = self.find(user, version).await?;
        self.info(user, version).await
    }

    async fn info(&self, user: UserNid, version: Version) -> Result<BackupInfo> {
        let count = key_backup::count(&self.context.db, user, version.version).await?;
        let corrupt = |error| StorageError::corrupt("backup_versions", "auth_data", user, error);
        let auth_data = stored_json::readable(version.auth_data, "backup_versions");
        let description = Description { algorithm: &version.algorithm, auth_data: &auth_data };
        let text = serde_json::to_string(&description).map_err(corrupt)?;
        Ok(BackupInfo {
            algorithm: Raw::from_json_string(text).map_err(corrupt)?,
            count: as_uint(count),
            etag: version.etag.to_string(),
            version: version.version.to_string(),
        })
    }

    /// Replaces the `auth_data` of a version.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such version, `M_INVALID_PARAM` when the algorithm or the
    /// version in the body is another one.
    pub async fn update(
        &self,
        user: UserNid,
        version: &str,
        described: &Raw<BackupAlgorithm>,
    ) -> Result<()> {
        let Described { algorithm, auth_data, version: named } = parse(described)?;
        let found = self.find(user, version).await?;
        if named.is_some_and(|named| named != version) {
            return Err(MatrixError::invalid_param("the body names another version").into());
        }
        if algorithm != found.algorithm {
            return Err(MatrixError::invalid_param("the algorithm does not match").into());
        }
        let auth_data = String::from(Box::<str>::from(auth_data));
        let number = found.version;
        let updated = self.context.db.write(move |tx| {
            Box::pin(
                async move { key_backup::update(tx, user, number, algorithm, auth_data).await },
            )
        });
        if updated.await? { Ok(()) } else { Err(unknown_version().into()) }
    }

    /// Deletes a version with its keys. A deleted one may be deleted again. It is gone at once; its keys go
    /// piece by piece, and what is left when this is interrupted is a chore's.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there never was such a version.
    pub async fn delete(&self, user: UserNid, version: &str) -> Result<()> {
        let number = number(version)?;
        let deleted = self
            .context
            .db
            .write(move |tx| Box::pin(async move { key_backup::delete(tx, user, number).await }));
        if !deleted.await? {
            return Err(unknown_version().into());
        }
        self.empty(Some(user), None).await?;
        Ok(())
    }

    /// Deletes the keys of deleted versions, of a user or of all, piece by piece, so that others write in
    /// between. `right` is whose chore it is. Returns how many went.
    ///
    /// # Errors
    /// When it is not that chore's owner any more; when the database fails.
    pub async fn empty(&self, user: Option<UserNid>, right: Option<Right>) -> Result<u64> {
        let (db, mut gone) = (&self.context.db, 0);
        loop {
            let versions = key_backup::unemptied(db, user).await?;
            if versions.is_empty() {
                return Ok(gone);
            }
            for (user, version) in versions {
                let emptied = db.write(move |tx| {
                    Box::pin(async move {
                        if let Some(right) = right {
                            right.fence(tx).await?;
                        }
                        key_backup::empty(tx, user, version, PIECE_KEYS).await
                    })
                });
                gone += emptied.await?;
            }
        }
    }

    /// Stores keys, keeping better ones that are stored. All or none of them.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no version, `M_WRONG_ROOM_KEYS_VERSION` with `current_version`
    /// when it is not the newest, `M_BAD_JSON` when a key is malformed, `M_FORBIDDEN` or `M_TOO_LARGE`
    /// when the user's backups would hold more than they may.
    pub async fn put(&self, user: UserNid, version: &str, rooms: Rooms) -> Result<Stored> {
        let mut keys = Vec::new();
        for (room_id, backup) in rooms {
            for (session_id, raw) in backup.sessions {
                keys.push(room_key(&room_id, session_id, &raw)?);
            }
        }
        let number = number(version)?;
        let quota = self.context.settings.limits.backup();
        self.change(user, number, move |tx| {
            Box::pin(async move { key_backup::put(tx, user, number, keys, &quota).await })
        })
        .await
    }

    /// Deletes keys of a version, piece by piece.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such version.
    pub async fn remove(&self, user: UserNid, version: &str, scope: Scope) -> Result<Stored> {
        let version = self.find(user, version).await?.version;
        loop {
            let scope = scope.clone();
            let removed = self.context.db.write(move |tx| {
                Box::pin(
                    async move { key_backup::remove(tx, user, version, scope, PIECE_KEYS).await },
                )
            });
            let (contents, more) = removed.await?;
            if !more {
                return Ok(stored(contents));
            }
        }
    }

    /// Opens the keys of a version for reading, page by page.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such version.
    pub async fn reader(&self, user: UserNid, version: &str, scope: Scope) -> Result<Reader> {
        let version = self.find(user, version).await?.version;
        let context = Arc::clone(&self.context);
        Ok(Reader { context, user, version, scope, after: Some(Default::default()) })
    }

    /// Runs a change if `version` is the newest.
    async fn change<F>(&self, user: UserNid, version: i64, body: F) -> Result<Stored>
    where
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, colonnade_storage::Result<Contents>>
            + Clone
            + Send
            + 'static,
    {
        let attempt = self.context.db.write(move |tx| {
            Box::pin(async move {
                Ok(match key_backup::current_in(tx, user).await? {
                    None => Attempt::NoVersion,
                    Some(current) if current.version != version => {
                        Attempt::NotCurrent(current.version)
                    }
                    Some(_) => Attempt::Done(body(tx).await?),
                })
            })
        });
        match attempt.await? {
            Attempt::Done(contents) => Ok(stored(contents)),
            Attempt::NoVersion => Err(unknown_version().into()),
            Attempt::NotCurrent(current) => {
                let why = "this is not the current backup version";
                let error = MatrixError::wrong_room_keys_version(why);
                Err(error.with("current_version", current.to_string()).into())
            }
        }
    }

    async fn find(&self, user: UserNid, version: &str) -> Result<Version> {
        let found = key_backup::find(&self.context.db, user, number(version)?).await?;
        Ok(found.ok_or_else(unknown_version)?)
    }
}

fn unknown_version() -> MatrixError {
    MatrixError::not_found("unknown backup version")
}

/// Reads a version number; text that is none, or no number as we write it, names no version.
fn number(version: &str) -> Result<i64, MatrixError> {
    let number = version.parse().ok().filter(|number: &i64| number.to_string() == version);
    number.ok_or_else(unknown_version)
}

fn as_uint(count: i64) -> UInt {
    UInt::try_from(count).unwrap_or(UInt::MAX)
}

fn stored(contents: Contents) -> Stored {
    Stored { etag: contents.etag.to_string(), count: as_uint(contents.count) }
}

fn parse(described: &Raw<BackupAlgorithm>) -> Result<Described> {
    let parsed: Described = serde_json::from_str(described.json().get())
        .map_err(|error| MatrixError::bad_json(format!("malformed backup version: {error}")))?;
    if !parsed.auth_data.get().starts_with('{') {
        return Err(MatrixError::bad_json("auth_data is not a JSON object").into());
    }
    let is_long = parsed.algorithm.len() > NAME_LEN_MAX;
    if is_long || parsed.auth_data.get().len() > AUTH_DATA_BYTES_MAX {
        return Err(MatrixError::too_large("the backup version is too large").into());
    }
    Ok(parsed)
}

fn room_key(room_id: &RoomId, session_id: String, raw: &Raw<KeyBackupData>) -> Result<RoomKey> {
    let malformed =
        |why: String| Error::from(MatrixError::bad_json(format!("key {session_id}: {why}")));
    let data: KeyData =
        serde_json::from_str(raw.json().get()).map_err(|error| malformed(error.to_string()))?;
    if !data.session_data.get().starts_with('{') {
        return Err(malformed("session_data is not a JSON object".to_owned()));
    }
    let integer = |number: u64| {
        let small = Some(number).filter(|number| *number <= INTEGER_MAX);
        small
            .and_then(|number| i64::try_from(number).ok())
            .ok_or_else(|| malformed(format!("{number} is too large")))
    };
    let first_message_index = integer(data.first_message_index)?;
    let forwarded_count = integer(data.forwarded_count)?;
    let is_long = session_id.len() > NAME_LEN_MAX || room_id.as_str().len() > NAME_LEN_MAX;
    if is_long || data.session_data.get().len() > SESSION_DATA_BYTES_MAX {
        return Err(MatrixError::too_large("the key is too large").into());
    }
    Ok(RoomKey {
        room_id: room_id.to_string(),
        session_id,
        first_message_index,
        forwarded_count,
        is_verified: data.is_verified,
        session_data: data.session_data.get().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::room_id;
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    fn code<T>(result: Result<T>) -> Option<std::borrow::Cow<'static, str>> {
        match result {
            Ok(_) => None,
            Err(Error::Client(error)) => Some(error.errcode),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_version_has_one_name() {
        for (version, expected) in [("1", Some(1)), ("42", Some(42)), ("0", Some(0))] {
            assert_eq!(number(version).ok(), expected, "{version}");
        }
        for wrong in ["", "x", "+1", "01", " 1", "1.0", "99999999999999999999"] {
            assert_eq!(number(wrong).unwrap_err().errcode, "M_NOT_FOUND", "{wrong}");
        }
    }

    #[test]
    fn a_version_says_how_keys_are_encrypted() {
        let parsed = |value: Value| parse(&Raw::from_json(to_raw_value(&value).unwrap()));
        let long = "x".repeat(NAME_LEN_MAX + 1);
        let fat = json!({ "k": "x".repeat(AUTH_DATA_BYTES_MAX) });
        for (value, expected) in [
            (json!({ "algorithm": "a", "auth_data": {} }), None),
            (json!({ "algorithm": "a" }), Some("M_BAD_JSON")),
            (json!({ "algorithm": 5, "auth_data": {} }), Some("M_BAD_JSON")),
            (json!({ "algorithm": "a", "auth_data": [] }), Some("M_BAD_JSON")),
            (json!({ "algorithm": long, "auth_data": {} }), Some("M_TOO_LARGE")),
            (json!({ "algorithm": "a", "auth_data": fat }), Some("M_TOO_LARGE")),
        ] {
            assert_eq!(code(parsed(value)).as_deref(), expected);
        }
    }

    #[test]
    fn a_key_has_counts_that_json_can_carry() {
        let read = |first: u64, forwarded: u64, data: Value| {
            let value = json!({
                "first_message_index": first, "forwarded_count": forwarded, "is_verified": true,
                "session_data": data,
            });
            let raw = Raw::from_json(to_raw_value(&value).unwrap());
            room_key(room_id!("!a:b"), "session".to_owned(), &raw)
        };
        let key = read(7, 2, json!({ "x": 1 })).unwrap();
        assert_eq!((key.first_message_index, key.forwarded_count, key.is_verified), (7, 2, true));
        assert_eq!((&*key.session_id, &*key.session_data), ("session", r#"{"x":1}"#));
        assert_eq!(code(read(INTEGER_MAX, INTEGER_MAX, json!({}))), None);
        assert_eq!(code(read(INTEGER_MAX + 1, 0, json!({}))), Some("M_BAD_JSON".into()));
        assert_eq!(code(read(0, u64::MAX, json!({}))), Some("M_BAD_JSON".into()));
        assert_eq!(code(read(0, 0, json!("secret"))), Some("M_BAD_JSON".into()));
    }
}
