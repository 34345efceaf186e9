//! What was uploaded under which id. The bytes lie on disk by their hash; this file never sees them.

use colonnade_model::nid::UserNid;

use crate::{
    Database, Tx,
    database::sql,
    error::{Result, StorageError},
    quota::Quota,
};

pub mod elsewhere;

/// The BLAKE3 hash of a file: its name on disk.
pub type ContentHash = [u8; 32];

/// A file that lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its hash.
    pub hash: ContentHash,
    /// Its size in bytes.
    pub bytes: u64,
    /// The media type the uploader named.
    pub content_type: Option<String>,
    /// The file name the uploader named.
    pub file_name: Option<String>,
}

/// An upload: its id exists, its content perhaps not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Who made it.
    pub uploader: UserNid,
    /// The file; `None` until it is uploaded.
    pub content: Option<Content>,
    /// When the id was made, in milliseconds since the Unix epoch.
    pub created_ts: i64,
    /// When the id is forgotten unless content comes first.
    pub expires_ts: Option<i64>,
}

/// A row as it stands in the table.
#[derive(sqlx::FromRow)]
struct Row {
    uploader_nid: i64,
    hash: Option<Vec<u8>>,
    bytes: i64,
    content_type: Option<String>,
    file_name: Option<String>,
    created_ts: i64,
    expires_ts: Option<i64>,
}

/// Tells whether any upload has this content.
///
/// # Errors
/// When the database fails.
pub async fn has_content(db: &Database, hash: ContentHash) -> Result<bool> {
    const HAS: &str = "SELECT bytes FROM media WHERE hash = $1 LIMIT 1";
    let found: Option<i64> =
        read!(db, |c| sql::query_scalar(HAS).bind(hash.to_vec()).fetch_optional(c))?;
    Ok(found.is_some())
}

/// Returns an upload by its id.
///
/// # Errors
/// When the database fails or the row is damaged.
pub async fn find(db: &Database, media_id: &str) -> Result<Option<Upload>> {
    const FIND: &str = "SELECT uploader_nid, hash, bytes, content_type, file_name, created_ts, \
         expires_ts FROM media WHERE media_id = $1";
    let row: Option<Row> =
        read!(db, |c| sql::query_as(FIND).bind(media_id.to_owned()).fetch_optional(c))?;
    let Some(row) = row else { return Ok(None) };
    let corrupt = |column, why: String| StorageError::corrupt("media", column, media_id, why);
    let content = match row.hash {
        None => None,
        Some(hash) => Some(Content {
            hash: hash
                .try_into()
                .map_err(|wrong: Vec<u8>| corrupt("hash", format!("{} bytes", wrong.len())))?,
            bytes: u64::try_from(row.bytes).map_err(|why| corrupt("bytes", why.to_string()))?,
            content_type: row.content_type,
            file_name: row.file_name,
        }),
    };
    Ok(Some(Upload {
        uploader: UserNid(row.uploader_nid),
        content,
        created_ts: row.created_ts,
        expires_ts: row.expires_ts,
    }))
}

/// What a user keeps here: files and their bytes. Ids without content have none.
const KEPT: &str = "SELECT count(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM media \
     WHERE uploader_nid = $1";

/// Returns what a user keeps: ids, with content or not yet, and bytes.
///
/// # Errors
/// When the database fails.
pub async fn kept(db: &Database, uploader: UserNid) -> Result<(i64, i64)> {
    read!(db, |c| sql::query_as(KEPT).bind(uploader.0).fetch_one(c))
}

async fn require_within(tx: &mut Tx, uploader: UserNid, quota: &Quota) -> Result<()> {
    let (items, kept): (i64, i64) =
        run!(tx, |c| sql::query_as(KEPT).bind(uploader.0).fetch_one(c))?;
    quota.require(items, kept)
}

/// Stores an upload that came with its content.
///
/// # Errors
/// [`StorageError::Conflict`] when the id exists, [`StorageError::Full`] when the user would keep more
/// than `quota`.
pub async fn insert(
    tx: &mut Tx,
    media_id: &str,
    uploader: UserNid,
    content: &Content,
    now_ms: i64,
    quota: &Quota,
) -> Result<()> {
    const INSERT: &str = "INSERT INTO media (media_id, uploader_nid, hash, bytes, content_type, \
         file_name, created_ts) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    execute!(
        tx,
        sql::query(INSERT)
            .bind(media_id.to_owned())
            .bind(uploader.0)
            .bind(content.hash.to_vec())
            .bind(signed(content.bytes))
            .bind(content.content_type.clone())
            .bind(content.file_name.clone())
            .bind(now_ms)
    )?;
    require_within(tx, uploader, quota).await
}

/// What became of a request for an id without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// The id is made.
    Made,
    /// The user has as many of them as allowed; the first is forgotten at this time.
    TooMany {
        /// In milliseconds since the Unix epoch.
        until_ms: i64,
    },
}

/// Makes an id without content, after forgetting those of the user that have expired.
///
/// # Errors
/// [`StorageError::Conflict`] when the id exists.
pub async fn reserve(
    tx: &mut Tx,
    media_id: &str,
    uploader: UserNid,
    now_ms: i64,
    expires_ts: i64,
    pending_max: i64,
) -> Result<Reserved> {
    const FORGET: &str =
        "DELETE FROM media WHERE uploader_nid = $1 AND hash IS NULL AND expires_ts <= $2";
    const PENDING: &str = "SELECT count(*), COALESCE(min(expires_ts), 0) FROM media \
         WHERE uploader_nid = $1 AND hash IS NULL";
    const INSERT: &str = "INSERT INTO media (media_id, uploader_nid, bytes, created_ts, \
         expires_ts) VALUES ($1, $2, 0, $3, $4)";
    execute!(tx, sql::query(FORGET).bind(uploader.0).bind(now_ms))?;
    let (pending, until_ms): (i64, i64) =
        run!(tx, |c| sql::query_as(PENDING).bind(uploader.0).fetch_one(c))?;
    if pending >= pending_max {
        return Ok(Reserved::TooMany { until_ms });
    }
    let media_id = media_id.to_owned();
    execute!(tx, sql::query(INSERT).bind(media_id).bind(uploader.0).bind(now_ms).bind(expires_ts))?;
    Ok(Reserved::Made)
}

/// Gives an id of `uploader`'s its content. Returns false when it has some already or is gone.
///
/// # Errors
/// [`StorageError::Full`] when the user would keep more than `quota`; when the database fails.
pub async fn fill(
    tx: &mut Tx,
    media_id: &str,
    uploader: UserNid,
    content: &Content,
    quota: &Quota,
) -> Result<bool> {
    const FILL: &str = "UPDATE media SET hash = $2, bytes = $3, content_type = $4, \
         file_name = $5, expires_ts = NULL WHERE media_id = $1 AND hash IS NULL";
    let filled = execute!(
        tx,
        sql::query(FILL)
            .bind(media_id.to_owned())
            .bind(content.hash.to_vec())
            .bind(signed(content.bytes))
            .bind(content.content_type.clone())
            .bind(content.file_name.clone())
    )?;
    require_within(tx, uploader, quota).await?;
    Ok(filled > 0)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
