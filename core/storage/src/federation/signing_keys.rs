//! The keys this server signs with: the one it uses is in the settings, those of before are here.

use crate::{
    Database,
    database::sql,
    error::{Result, StorageError},
};

/// Under which the public half of the key in use is noted in the settings.
const CURRENT: &str = "signing_key";

/// A key this server signed with before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetiredKey {
    /// Its name, `ed25519:a_key` say.
    pub key_id: String,
    /// Its public half.
    pub public_key: Vec<u8>,
    /// Until when it was used, in milliseconds since the Unix epoch.
    pub expired_ms: i64,
}

/// Returns the keys this server signed with before.
///
/// # Errors
/// When the database fails.
pub async fn retired(db: &Database) -> Result<Vec<RetiredKey>> {
    const ALL: &str = "SELECT key_id, public_key, expired_ts FROM retired_signing_keys \
         ORDER BY expired_ts";
    let rows: Vec<(String, Vec<u8>, i64)> = read!(db, |c| sql::query_as(ALL).fetch_all(c))?;
    let key = |(key_id, public_key, expired_ms)| RetiredKey { key_id, public_key, expired_ms };
    Ok(rows.into_iter().map(key).collect())
}

/// Puts the key noted as `next` in the place of the one noted as `before`, which is kept among those of before.
///
/// # Errors
/// [`StorageError::Conflict`] when another than `before` is in use.
pub async fn replace(
    db: &Database,
    before: String,
    next: String,
    retired: RetiredKey,
) -> Result<()> {
    db.write(move |tx| {
        Box::pin(async move {
            const REPLACE: &str = "UPDATE settings SET value = $3 WHERE key = $1 AND value = $2";
            const RETIRE: &str = "INSERT INTO retired_signing_keys \
                 (key_id, public_key, expired_ts) VALUES ($1, $2, $3) \
                 ON CONFLICT (key_id) DO UPDATE SET expired_ts = excluded.expired_ts";
            let (before, next) = (before.into_bytes(), next.into_bytes());
            if execute!(tx, sql::query(REPLACE).bind(CURRENT).bind(before).bind(next))? == 0 {
                return Err(StorageError::Conflict("another signing key is in use".to_owned()));
            }
            let RetiredKey { key_id, public_key, expired_ms } = retired;
            execute!(tx, sql::query(RETIRE).bind(key_id).bind(public_key).bind(expired_ms))?;
            Ok(())
        })
    })
    .await
}
