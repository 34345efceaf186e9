//! Cross-signing keys: per user one master, one self-signing and one user-signing key.

use colonnade_model::nid::UserNid;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::{Result, StorageError},
};

/// Users asked for in one statement.
const LIST_MAX: usize = 1_000;

/// What a cross-signing key is for. The numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Usage {
    /// Signs the other two.
    Master = 1,
    /// Signs the user's devices.
    SelfSigning = 2,
    /// Signs other users' master keys.
    UserSigning = 3,
}

/// A cross-signing key of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrossSigningKey {
    /// Whose key it is.
    pub user: UserNid,
    /// What it is for.
    pub usage: Usage,
    /// The public key in unpadded base64.
    pub public_key: String,
    /// Canonical JSON as uploaded.
    pub key: String,
}

type Row = (i64, i64, String, String);

/// Returns the cross-signing keys of `users`.
///
/// # Errors
/// When the database fails or a row is damaged.
pub async fn of_users(db: &Database, users: &[UserNid]) -> Result<Vec<CrossSigningKey>> {
    const FIND: &str = "SELECT user_nid, usage, public_key, key FROM cross_signing_keys \
         WHERE user_nid IN {INTS 1} ORDER BY user_nid, usage";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<Row> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        for row in rows {
            found.push(decode(row)?);
        }
    }
    Ok(found)
}

/// Returns the cross-signing keys of one user inside a transaction.
///
/// # Errors
/// When the database fails or a row is damaged.
pub async fn of_user(tx: &mut Tx, user: UserNid) -> Result<Vec<CrossSigningKey>> {
    const FIND: &str = "SELECT user_nid, usage, public_key, key FROM cross_signing_keys \
         WHERE user_nid = $1 ORDER BY usage";
    let rows: Vec<Row> = run!(tx, |c| sql::query_as(FIND).bind(user.0).fetch_all(c))?;
    rows.into_iter().map(decode).collect()
}

/// Stores a cross-signing key. A key that is replaced takes the signatures it made and those made on
/// it along.
///
/// # Errors
/// When the database fails.
pub async fn put(tx: &mut Tx, key: CrossSigningKey) -> Result<()> {
    const PUT: &str = "INSERT INTO cross_signing_keys (user_nid, usage, public_key, key) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (user_nid, usage) \
         DO UPDATE SET public_key = excluded.public_key, key = excluded.key";
    forget_signatures(tx, key.user, key.usage, &key.public_key).await?;
    execute!(
        tx,
        sql::query(PUT).bind(key.user.0).bind(key.usage as i64).bind(key.public_key).bind(key.key)
    )?;
    Ok(())
}

/// Deletes a cross-signing key with the signatures it made.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, user: UserNid, usage: Usage) -> Result<()> {
    const DELETE: &str = "DELETE FROM cross_signing_keys WHERE user_nid = $1 AND usage = $2";
    forget_signatures(tx, user, usage, "").await?;
    execute!(tx, sql::query(DELETE).bind(user.0).bind(usage as i64))?;
    Ok(())
}

/// Deletes the signatures by and on the stored key of this usage, unless that is `keep`.
async fn forget_signatures(tx: &mut Tx, user: UserNid, usage: Usage, keep: &str) -> Result<()> {
    const OLD: &str = "SELECT public_key FROM cross_signing_keys \
         WHERE user_nid = $1 AND usage = $2 AND public_key <> $3";
    const BY: &str = "DELETE FROM key_signatures WHERE signer_nid = $1 AND signer_key = $2";
    const ON: &str = "DELETE FROM key_signatures WHERE target_nid = $1 AND target_key = $2";
    let old: Option<String> = run!(tx, |c| sql::query_scalar(OLD)
        .bind(user.0)
        .bind(usage as i64)
        .bind(keep.to_owned())
        .fetch_optional(c))?;
    if let Some(old) = old {
        execute!(tx, sql::query(BY).bind(user.0).bind(format!("ed25519:{old}")))?;
        execute!(tx, sql::query(ON).bind(user.0).bind(old))?;
    }
    Ok(())
}

fn decode((user, usage, public_key, key): Row) -> Result<CrossSigningKey> {
    let usage = match usage {
        1 => Usage::Master,
        2 => Usage::SelfSigning,
        3 => Usage::UserSigning,
        other => {
            let why = format!("{other} is no usage");
            return Err(StorageError::corrupt("cross_signing_keys", "usage", user, why));
        }
    };
    Ok(CrossSigningKey { user: UserNid(user), usage, public_key, key })
}
