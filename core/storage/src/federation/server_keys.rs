//! Signing keys of other servers, and the answers in which they published them.

use crate::{Database, database::sql, error::Result};

/// Keys of one server of which the answer that names them is kept.
const NAMED_MAX: usize = 16;

/// A key of another server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerKey {
    /// Its name, `ed25519:a_key` say.
    pub key_id: String,
    /// Its public half.
    pub public_key: Vec<u8>,
    /// Until when it is valid, in milliseconds since the Unix epoch.
    pub valid_until_ms: i64,
}

/// An answer in which a server published its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The JSON as the server signed it.
    pub answer: Vec<u8>,
    /// When it was fetched, in milliseconds since the Unix epoch.
    pub fetched_ms: i64,
    /// Until when its keys are valid.
    pub valid_until_ms: i64,
}

/// Returns every key a server is known to have had.
///
/// # Errors
/// When the database fails.
pub async fn of(db: &Database, server: &str) -> Result<Vec<ServerKey>> {
    const FIND: &str =
        "SELECT key_id, public_key, valid_until_ts FROM server_keys WHERE server_name = $1";
    let rows: Vec<(String, Vec<u8>, i64)> =
        read!(db, |c| sql::query_as(FIND).bind(server).fetch_all(c))?;
    let key =
        |(key_id, public_key, valid_until_ms)| ServerKey { key_id, public_key, valid_until_ms };
    Ok(rows.into_iter().map(key).collect())
}

/// Returns the newest answer in which a server published its keys.
///
/// # Errors
/// When the database fails.
pub async fn answer(db: &Database, server: &str) -> Result<Option<KeyAnswer>> {
    const FIND: &str = "SELECT answer, fetched_ts, valid_until_ts FROM server_key_answers \
         WHERE server_name = $1";
    let row: Option<(Vec<u8>, i64, i64)> =
        read!(db, |c| sql::query_as(FIND).bind(server).fetch_optional(c))?;
    Ok(row.map(|(answer, fetched_ms, valid_until_ms)| KeyAnswer {
        answer,
        fetched_ms,
        valid_until_ms,
    }))
}

/// Returns the answers in which a server published some keys, each that which is valid longest.
///
/// # Errors
/// When the database fails.
pub async fn answers_naming(
    db: &Database,
    server: &str,
    key_ids: &[String],
) -> Result<Vec<(String, KeyAnswer)>> {
    const FIND: &str = "SELECT key_id, answer, fetched_ts, valid_until_ts \
         FROM server_key_answers_by_key WHERE server_name = $1 ORDER BY key_id";
    let rows: Vec<(String, Vec<u8>, i64, i64)> =
        read!(db, |c| sql::query_as(FIND).bind(server).fetch_all(c))?;
    let wanted = rows.into_iter().filter(|(key_id, ..)| key_ids.contains(key_id));
    let named = wanted.map(|(key_id, answer, fetched_ms, valid_until_ms)| {
        (key_id, KeyAnswer { answer, fetched_ms, valid_until_ms })
    });
    Ok(named.collect())
}

/// Keeps what a server published. A key's public half never changes; until when it is valid does.
///
/// # Errors
/// When the database fails.
pub async fn keep(
    db: &Database,
    server: &str,
    keys: Vec<ServerKey>,
    answer: KeyAnswer,
) -> Result<()> {
    let server = server.to_owned();
    db.write(move |tx| {
        Box::pin(async move {
            const KEY: &str = "INSERT INTO server_keys \
                 (server_name, key_id, public_key, valid_until_ts) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (server_name, key_id) DO UPDATE SET \
                 valid_until_ts = excluded.valid_until_ts \
                 WHERE server_keys.public_key = excluded.public_key";
            const ANSWER: &str = "INSERT INTO server_key_answers \
                 (server_name, answer, fetched_ts, valid_until_ts) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (server_name) DO UPDATE SET answer = excluded.answer, \
                 fetched_ts = excluded.fetched_ts, valid_until_ts = excluded.valid_until_ts";
            const NAMED: &str = "INSERT INTO server_key_answers_by_key \
                 (server_name, key_id, answer, fetched_ts, valid_until_ts) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT (server_name, key_id) DO UPDATE SET \
                 answer = excluded.answer, fetched_ts = excluded.fetched_ts, \
                 valid_until_ts = excluded.valid_until_ts \
                 WHERE server_key_answers_by_key.valid_until_ts <= excluded.valid_until_ts";
            const FORGET: &str = "DELETE FROM server_key_answers_by_key WHERE server_name = $1 \
                 AND key_id NOT IN (SELECT key_id FROM server_key_answers_by_key \
                 WHERE server_name = $1 ORDER BY fetched_ts DESC, key_id LIMIT $2)";
            for key in keys.iter().take(NAMED_MAX) {
                let key_id = key.key_id.clone();
                let KeyAnswer { answer, fetched_ms, valid_until_ms } = answer.clone();
                execute!(
                    tx,
                    sql::query(NAMED)
                        .bind(&server)
                        .bind(key_id)
                        .bind(answer)
                        .bind(fetched_ms)
                        .bind(valid_until_ms)
                )?;
            }
            execute!(tx, sql::query(FORGET).bind(&server).bind(NAMED_MAX as i64))?;
            for ServerKey { key_id, public_key, valid_until_ms } in keys {
                execute!(
                    tx,
                    sql::query(KEY)
                        .bind(&server)
                        .bind(key_id)
                        .bind(public_key)
                        .bind(valid_until_ms)
                )?;
            }
            let KeyAnswer { answer, fetched_ms, valid_until_ms } = answer;
            execute!(
                tx,
                sql::query(ANSWER).bind(server).bind(answer).bind(fetched_ms).bind(valid_until_ms)
            )?;
            Ok(())
        })
    })
    .await
}
