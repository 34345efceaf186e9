//! Other servers that could not be reached, and when they are tried again: for all processes.

use crate::{Database, database::sql, error::Result};

/// How a server that is not reached is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// Since when it has not been reached, in milliseconds since the Unix epoch.
    pub failing_since_ms: i64,
    /// When it is tried again.
    pub retry_at_ms: i64,
    /// The pause that ends then, in milliseconds.
    pub pause_ms: i64,
}

/// The shortest and the longest pause, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Pauses {
    /// The first one.
    pub min_ms: i64,
    /// Where doubling ends.
    pub max_ms: i64,
}

/// Returns whether a server is not reached; `None` when it is, as far as is known.
///
/// # Errors
/// When the database fails.
pub async fn absence(db: &Database, server: &str) -> Result<Option<Absence>> {
    const FIND: &str = "SELECT failing_since, retry_at, pause_ms FROM destinations \
         WHERE server_name = $1 AND failing_since > 0";
    let row: Option<(i64, i64, i64)> =
        read!(db, |c| sql::query_as(FIND).bind(server).fetch_optional(c))?;
    Ok(row.map(|(failing_since_ms, retry_at_ms, pause_ms)| Absence {
        failing_since_ms,
        retry_at_ms,
        pause_ms,
    }))
}

/// Notes that a server was not reached, and returns how it is treated from now on. Of several failures at a
/// time, of any process, the first counts.
///
/// # Errors
/// When the database fails.
pub async fn failed(db: &Database, server: &str, now_ms: i64, pauses: Pauses) -> Result<Absence> {
    let server = server.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            const FIND: &str = "SELECT failing_since, retry_at, pause_ms FROM destinations \
                 WHERE server_name = $1";
            const NOTE: &str = "INSERT INTO destinations \
                 (server_name, failing_since, retry_at, pause_ms) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (server_name) DO UPDATE SET failing_since = excluded.failing_since, \
                 retry_at = excluded.retry_at, pause_ms = excluded.pause_ms";
            let row: Option<(i64, i64, i64)> =
                run!(tx, |c| sql::query_as(FIND).bind(&server).fetch_optional(c))?;
            let (since, retry_at, before) = row.unwrap_or_default();
            if since > 0 && retry_at > now_ms {
                return Ok(Absence {
                    failing_since_ms: since,
                    retry_at_ms: retry_at,
                    pause_ms: before,
                });
            }
            let doubled = if since > 0 { before.saturating_mul(2) } else { pauses.min_ms };
            let pause_ms = doubled.clamp(pauses.min_ms, pauses.max_ms);
            let since = if since > 0 { since } else { now_ms };
            let retry_at = now_ms.saturating_add(pause_ms);
            execute!(tx, sql::query(NOTE).bind(server).bind(since).bind(retry_at).bind(pause_ms))?;
            Ok(Absence { failing_since_ms: since, retry_at_ms: retry_at, pause_ms })
        })
    })
    .await
}

/// Notes that a server is reached again; returns whether it was not.
///
/// # Errors
/// When the database fails.
pub async fn reached(db: &Database, server: &str) -> Result<bool> {
    let server = server.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            const FORGET: &str = "UPDATE destinations SET failing_since = 0, retry_at = 0, \
                 pause_ms = 0 WHERE server_name = $1 AND failing_since > 0";
            Ok(execute!(tx, sql::query(FORGET).bind(server))? > 0)
        })
    })
    .await
}
