//! Files of other servers that are kept here for a while: those that were not asked for the longest go first.

use crate::{
    Database, Tx,
    database::sql,
    error::{Result, StorageError},
    media::{Content, ContentHash},
};

/// Files that give way at a time.
const GOING_MAX: i64 = 100;

/// A file of another server that is kept here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteContent {
    /// The file. Its hash is not one: it is drawn, so that nothing else lies under the same name.
    pub content: Content,
    /// When it was fetched, in milliseconds since the Unix epoch.
    pub fetched_ts: i64,
    /// When it was asked for, about.
    pub used_ts: i64,
    /// Whether it is shown to nobody.
    pub is_quarantined: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    file: Vec<u8>,
    bytes: i64,
    content_type: Option<String>,
    file_name: Option<String>,
    fetched_ts: i64,
    used_ts: i64,
    quarantined_ts: Option<i64>,
}

/// Returns what is kept of another server's file.
///
/// # Errors
/// When the database fails or the row is damaged.
pub async fn find(db: &Database, server: &str, media_id: &str) -> Result<Option<RemoteContent>> {
    const FIND: &str = "SELECT file, bytes, content_type, file_name, fetched_ts, used_ts, \
         quarantined_ts FROM remote_media WHERE server = $1 AND media_id = $2";
    let (host, id) = (server.to_owned(), media_id.to_owned());
    let row: Option<Row> =
        read!(db, |c| sql::query_as(FIND).bind(host).bind(id).fetch_optional(c))?;
    let Some(row) = row else { return Ok(None) };
    let content = Content {
        hash: name(row.file)?,
        bytes: u64::try_from(row.bytes).unwrap_or(0),
        content_type: row.content_type,
        file_name: row.file_name,
    };
    Ok(Some(RemoteContent {
        content,
        fetched_ts: row.fetched_ts,
        used_ts: row.used_ts,
        is_quarantined: row.quarantined_ts.is_some(),
    }))
}

fn name(file: Vec<u8>) -> Result<ContentHash> {
    let wrong =
        |wrong: Vec<u8>| StorageError::corrupt("remote_media", "file", "", format!("{wrong:?}"));
    file.try_into().map_err(wrong)
}

/// Tells whether a file on disk is one of these.
///
/// # Errors
/// When the database fails.
pub async fn has_file(db: &Database, file: ContentHash) -> Result<bool> {
    const HAS: &str = "SELECT bytes FROM remote_media WHERE file = $1";
    let found: Option<i64> =
        read!(db, |c| sql::query_scalar(HAS).bind(file.to_vec()).fetch_optional(c))?;
    Ok(found.is_some())
}

/// Notes a file that was fetched. Returns false when another process fetched it first.
///
/// # Errors
/// When the database fails.
pub async fn insert(
    tx: &mut Tx,
    server: &str,
    media_id: &str,
    content: &Content,
    now_ms: i64,
) -> Result<bool> {
    const INSERT: &str = "INSERT INTO remote_media (server, media_id, file, bytes, content_type, \
         file_name, fetched_ts, used_ts) VALUES ($1, $2, $3, $4, $5, $6, $7, $7) \
         ON CONFLICT (server, media_id) DO NOTHING";
    let bytes = i64::try_from(content.bytes).unwrap_or(i64::MAX);
    let inserted = execute!(
        tx,
        sql::query(INSERT)
            .bind(server.to_owned())
            .bind(media_id.to_owned())
            .bind(content.hash.to_vec())
            .bind(bytes)
            .bind(content.content_type.clone())
            .bind(content.file_name.clone())
            .bind(now_ms)
    )?;
    if inserted > 0 {
        grow(tx, bytes).await?;
    }
    Ok(inserted > 0)
}

async fn grow(tx: &mut Tx, bytes: i64) -> Result<()> {
    const GROW: &str = "INSERT INTO remote_media_size (id, bytes) VALUES (1, $1) \
         ON CONFLICT (id) DO UPDATE SET bytes = remote_media_size.bytes + excluded.bytes";
    execute!(tx, sql::query(GROW).bind(bytes)).map(drop)
}

/// Notes that a file was asked for.
///
/// # Errors
/// When the database fails.
pub async fn use_now(tx: &mut Tx, server: &str, media_id: &str, now_ms: i64) -> Result<()> {
    const USE: &str = "UPDATE remote_media SET used_ts = $3 WHERE server = $1 AND media_id = $2";
    let (server, media_id) = (server.to_owned(), media_id.to_owned());
    execute!(tx, sql::query(USE).bind(server).bind(media_id).bind(now_ms)).map(drop)
}

/// Forgets a file whose bytes are gone.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, file: ContentHash) -> Result<()> {
    const SIZE: &str = "SELECT bytes FROM remote_media WHERE file = $1";
    const FORGET: &str = "DELETE FROM remote_media WHERE file = $1";
    let bytes: Option<i64> =
        run!(tx, |c| sql::query_scalar(SIZE).bind(file.to_vec()).fetch_optional(c))?;
    let Some(bytes) = bytes else { return Ok(()) };
    execute!(tx, sql::query(FORGET).bind(file.to_vec()))?;
    grow(tx, -bytes).await
}

/// Forgets files that were not asked for the longest until all have at most `bytes_max` bytes together; returns
/// them, for their bytes lie on disk still. What is quarantined stays.
///
/// # Errors
/// When the database fails.
pub async fn make_room(tx: &mut Tx, bytes_max: i64) -> Result<Vec<ContentHash>> {
    const SIZE: &str = "SELECT bytes FROM remote_media_size WHERE id = 1";
    const OLDEST: &str = "SELECT file, bytes FROM remote_media WHERE quarantined_ts IS NULL \
         ORDER BY used_ts LIMIT $1";
    let all: Option<i64> = run!(tx, |c| sql::query_scalar(SIZE).fetch_optional(c))?;
    let mut over = all.unwrap_or(0).saturating_sub(bytes_max);
    if over <= 0 {
        return Ok(Vec::new());
    }
    let oldest: Vec<(Vec<u8>, i64)> =
        run!(tx, |c| sql::query_as(OLDEST).bind(GOING_MAX).fetch_all(c))?;
    let mut going = Vec::new();
    for (file, bytes) in oldest {
        if over <= 0 {
            break;
        }
        let file = name(file)?;
        forget(tx, file).await?;
        going.push(file);
        over = over.saturating_sub(bytes);
    }
    Ok(going)
}

#[cfg(test)]
mod tests;
