//! Messages to devices of other servers, until they are delivered. Their numbers are positions of the to-device
//! stream: whoever has reached one knows every message up to it.

use colonnade_model::{
    ruma::OwnedServerName,
    stream::{Position, Stream},
};

use crate::{Database, Tx, database::sql, error::Result};

/// Messages that wait for one server. One that does not come back gets no more: the sender is not told, as with
/// an inbox that is full.
pub const WAITING_MAX: i64 = 10_000;

/// A message to devices of another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMessage {
    /// The server.
    pub server: OwnedServerName,
    /// The EDU as JSON.
    pub body: String,
}

/// Puts messages behind those that wait. Takes positions: call it last.
///
/// # Errors
/// When the database fails.
pub(crate) async fn put(tx: &mut Tx, messages: Vec<DeviceMessage>, now_ms: i64) -> Result<()> {
    const FULL: &str = "SELECT seq FROM destination_outbox WHERE server = $1 \
         ORDER BY seq DESC LIMIT 1 OFFSET $2";
    const PUT: &str =
        "INSERT INTO destination_outbox (seq, server, body, ts) VALUES ($1, $2, $3, $4)";
    let mut admitted = Vec::with_capacity(messages.len());
    for DeviceMessage { server, body } in messages {
        let server = server.to_string();
        let full: Option<i64> = run!(tx, |c| sql::query_scalar(FULL)
            .bind(server.clone())
            .bind(WAITING_MAX - 1)
            .fetch_optional(c))?;
        match full {
            None => admitted.push((server, body)),
            Some(_) => tracing::debug!(server, "too many messages wait: one is not kept"),
        }
    }
    if admitted.is_empty() {
        return Ok(());
    }
    let first = tx.seal(Stream::ToDevice, admitted.len()).await?;
    for (seq, (server, body)) in (first..).zip(admitted) {
        let body = body.into_bytes();
        execute!(tx, sql::query(PUT).bind(seq).bind(server).bind(body).bind(now_ms))?;
    }
    Ok(())
}

/// Returns whom messages wait for that were put above `after` and up to `upto`, at most `limit` of them, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn between(
    db: &Database,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<(Position, OwnedServerName)>> {
    const NEW: &str = "SELECT seq, server FROM destination_outbox \
         WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3";
    let rows: Vec<(i64, String)> =
        read!(db, |c| sql::query_as(NEW).bind(after).bind(upto).bind(limit).fetch_all(c))?;
    let named = rows
        .into_iter()
        .filter_map(|(seq, server)| Some((seq, OwnedServerName::try_from(server.as_str()).ok()?)));
    Ok(named.collect())
}

/// Returns every server that a message waits for.
///
/// # Errors
/// When the database fails.
pub async fn servers(db: &Database) -> Result<Vec<OwnedServerName>> {
    const ALL: &str = "SELECT DISTINCT server FROM destination_outbox";
    let rows: Vec<String> = read!(db, |c| sql::query_scalar(ALL).fetch_all(c))?;
    Ok(rows.iter().filter_map(|server| OwnedServerName::try_from(server.as_str()).ok()).collect())
}

/// Returns the first messages that wait for a server, at most `limit`.
///
/// # Errors
/// When the database fails.
pub async fn next(db: &Database, server: &str, limit: i64) -> Result<Vec<(Position, Vec<u8>)>> {
    const NEXT: &str =
        "SELECT seq, body FROM destination_outbox WHERE server = $1 ORDER BY seq LIMIT $2";
    let server = server.to_owned();
    read!(db, |c| sql::query_as(NEXT).bind(server).bind(limit).fetch_all(c))
}

/// Deletes the messages of a server up to a number: it has them.
///
/// # Errors
/// When the database fails.
pub async fn delivered(db: &Database, server: &str, upto: Position) -> Result<()> {
    const DELETE: &str = "DELETE FROM destination_outbox WHERE server = $1 AND seq <= $2";
    let server = server.to_owned();
    db.write_twice(move |tx| {
        Box::pin(async move { execute!(tx, sql::query(DELETE).bind(server).bind(upto)).map(drop) })
    })
    .await
}

/// Gives up at most `limit` messages from before `before_ts`, in milliseconds since 1970. Fewer are the last.
///
/// # Errors
/// When the database fails.
pub async fn prune(tx: &mut Tx, before_ts: i64, limit: i64) -> Result<u64> {
    const PRUNE: &str = "DELETE FROM destination_outbox WHERE seq IN \
         (SELECT seq FROM destination_outbox WHERE ts < $1 ORDER BY ts LIMIT $2)";
    execute!(tx, sql::query(PRUNE).bind(before_ts).bind(limit))
}
