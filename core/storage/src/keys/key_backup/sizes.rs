//! How much the versions of a backup hold. Counting 100,000 keys at every upload would cost too much, so
//! the size is noted with the etag it was true for; with another etag it is counted anew.

use std::ops::{Add, Sub};

use colonnade_model::nid::UserNid;

use crate::{Tx, database::sql, error::Result};

/// The keys a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of a version.
    All,
    /// Those of one room.
    Room(String),
    /// One session of a room.
    Session(String, String),
}

/// Keys and the bytes of what is encrypted in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) keys: i64,
    pub(crate) bytes: i64,
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { keys: self.keys + other.keys, bytes: self.bytes + other.bytes }
    }
}

impl Sub for Size {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { keys: self.keys - other.keys, bytes: self.bytes - other.bytes }
    }
}

fn size_of((keys, bytes): (i64, i64)) -> Size {
    Size { keys, bytes }
}

/// Returns what a version holds.
pub(crate) async fn of(tx: &mut Tx, user: UserNid, version: i64) -> Result<Size> {
    const NOTED: &str = "SELECT s.keys, s.bytes FROM backup_sizes s JOIN backup_versions v \
         ON v.user_nid = s.user_nid AND v.version = s.version AND v.etag = s.etag \
         WHERE s.user_nid = $1 AND s.version = $2";
    const COUNTED: &str = "SELECT count(*), \
         CAST(COALESCE(SUM(octet_length(session_data)), 0) AS BIGINT) FROM backup_keys \
         WHERE user_nid = $1 AND version = $2";
    let noted: Option<(i64, i64)> =
        run!(tx, |c| sql::query_as(NOTED).bind(user.0).bind(version).fetch_optional(c))?;
    let size = match noted {
        Some(noted) => noted,
        None => run!(tx, |c| sql::query_as(COUNTED).bind(user.0).bind(version).fetch_one(c))?,
    };
    Ok(size_of(size))
}

/// Returns what the user's other versions hold together, deleted ones as long as they are not empty.
pub(crate) async fn of_others(tx: &mut Tx, user: UserNid, version: i64) -> Result<Size> {
    const OTHERS: &str = "SELECT version FROM backup_versions \
         WHERE user_nid = $1 AND version <> $2";
    let others: Vec<i64> =
        run!(tx, |c| sql::query_scalar(OTHERS).bind(user.0).bind(version).fetch_all(c))?;
    let mut all = Size::default();
    for other in others {
        all = all + of(tx, user, other).await?;
    }
    Ok(all)
}

/// Deletes at most `limit` keys of a version and returns what they held.
pub(crate) async fn remove(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    scope: &Scope,
    limit: i64,
) -> Result<Size> {
    macro_rules! remove_sql {
        ($scope:literal) => {
            concat!(
                "DELETE FROM backup_keys WHERE user_nid = $1 AND version = $2 ",
                "AND (room_id, session_id) IN (SELECT room_id, session_id FROM backup_keys ",
                "WHERE user_nid = $1 AND version = $2 ",
                $scope,
                " LIMIT $3) RETURNING CAST(octet_length(session_data) AS BIGINT)"
            )
        };
    }
    const ALL: &str = remove_sql!("");
    const ROOM: &str = remove_sql!("AND room_id = $4");
    const SESSION: &str = remove_sql!("AND room_id = $4 AND session_id = $5");
    let gone: Vec<i64> = match scope {
        Scope::All => run!(tx, |c| sql::query_scalar(ALL)
            .bind(user.0)
            .bind(version)
            .bind(limit)
            .fetch_all(c))?,
        Scope::Room(room) => run!(tx, |c| sql::query_scalar(ROOM)
            .bind(user.0)
            .bind(version)
            .bind(limit)
            .bind(room.clone())
            .fetch_all(c))?,
        Scope::Session(room, session) => run!(tx, |c| sql::query_scalar(SESSION)
            .bind(user.0)
            .bind(version)
            .bind(limit)
            .bind(room.clone())
            .bind(session.clone())
            .fetch_all(c))?,
    };
    Ok(Size { keys: i64::try_from(gone.len()).unwrap_or(i64::MAX), bytes: gone.iter().sum() })
}

/// Returns what a version holds of these keys, by room and session.
pub(crate) async fn of_keys(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    names: &[(String, String)],
) -> Result<Size> {
    // A look-up for each, by the primary key, and not a join: an engine that knows nothing of the table
    // yet would read all of it.
    let mut sql = String::from(
        "SELECT count(n.size), CAST(COALESCE(SUM(n.size), 0) AS BIGINT) FROM (SELECT \
         (SELECT octet_length(k.session_data) FROM backup_keys k WHERE k.user_nid = $1 \
         AND k.version = $2 AND k.room_id = v.column1 AND k.session_id = v.column2) AS size \
         FROM (VALUES ",
    );
    for n in 0..names.len() {
        let comma = if n == 0 { "" } else { ", " };
        sql.push_str(&format!("{comma}(${}, ${})", 2 * n + 3, 2 * n + 4));
    }
    sql.push_str(") AS v) AS n");
    let size: (i64, i64) = run!(tx, |c| {
        let mut query = sql::query_as(sqlx::AssertSqlSafe(sql.clone())).bind(user.0).bind(version);
        for (room, session) in names {
            query = query.bind(room.clone()).bind(session.clone());
        }
        query.fetch_one(c)
    })?;
    Ok(size_of(size))
}

/// Notes what a version holds at an etag.
pub(crate) async fn note(
    tx: &mut Tx,
    user: UserNid,
    version: i64,
    etag: i64,
    size: Size,
) -> Result<()> {
    const NOTE: &str = "INSERT INTO backup_sizes (user_nid, version, etag, keys, bytes) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (user_nid, version) \
         DO UPDATE SET etag = excluded.etag, keys = excluded.keys, bytes = excluded.bytes";
    execute!(
        tx,
        sql::query(NOTE).bind(user.0).bind(version).bind(etag).bind(size.keys).bind(size.bytes)
    )
    .map(drop)
}
