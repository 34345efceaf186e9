//! Profiles of local users: one row per field, the value as JSON.

use colonnade_model::nid::UserNid;
use serde_json::Value;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::{Result, StorageError},
};

/// The name people see.
pub const DISPLAYNAME: &str = "displayname";
/// The picture people see.
pub const AVATAR_URL: &str = "avatar_url";

/// Users whose names are read by one statement.
const LIST_MAX: usize = 5_000;

const FIELDS: &str = "SELECT field, value FROM profiles WHERE user_nid = $1 ORDER BY field";

/// Returns all fields of a user.
///
/// # Errors
/// When the database fails or holds what is not JSON.
pub async fn fields(db: &Database, user: UserNid) -> Result<Vec<(String, Value)>> {
    let rows: Vec<(String, String)> =
        read!(db, |c| sql::query_as(FIELDS).bind(user.0).fetch_all(c))?;
    parsed(user, rows)
}

/// [`fields`] inside a transaction, for what is changed in the same one.
///
/// # Errors
/// As [`fields`].
pub async fn fields_in(tx: &mut Tx, user: UserNid) -> Result<Vec<(String, Value)>> {
    let rows: Vec<(String, String)> =
        run!(tx, |c| sql::query_as(FIELDS).bind(user.0).fetch_all(c))?;
    parsed(user, rows)
}

fn parsed(user: UserNid, rows: Vec<(String, String)>) -> Result<Vec<(String, Value)>> {
    let mut fields = Vec::with_capacity(rows.len());
    for (field, text) in rows {
        let value = parse(user, &text)?;
        fields.push((field, value));
    }
    Ok(fields)
}

/// Returns one field of a user.
///
/// # Errors
/// When the database fails or holds what is not JSON.
pub async fn field(db: &Database, user: UserNid, name: &str) -> Result<Option<Value>> {
    const FIELD: &str = "SELECT value FROM profiles WHERE user_nid = $1 AND field = $2";
    let text: Option<String> = read!(db, |c| sql::query_scalar(FIELD)
        .bind(user.0)
        .bind(name.to_owned())
        .fetch_optional(c))?;
    text.map(|text| parse(user, &text)).transpose()
}

/// What people see of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Shown {
    /// The display name.
    pub displayname: Option<String>,
    /// The picture, an `mxc:` URI.
    pub avatar_url: Option<String>,
}

/// Returns what people see of a user.
///
/// # Errors
/// When the database fails or holds what is not JSON.
pub async fn shown(db: &Database, user: UserNid) -> Result<Shown> {
    let many = shown_many(db, &[user]).await?;
    Ok(many.into_iter().next().map(|(_, shown)| shown).unwrap_or_default())
}

/// Returns what people see of many users; those without a profile are left out.
///
/// # Errors
/// When the database fails or holds what is not JSON.
pub async fn shown_many(db: &Database, users: &[UserNid]) -> Result<Vec<(UserNid, Shown)>> {
    const SHOWN: &str = "SELECT user_nid, field, value FROM profiles \
         WHERE user_nid IN {INTS 1} AND field IN ($2, $3) ORDER BY user_nid";
    let mut found: Vec<(UserNid, Shown)> = Vec::new();
    for part in users.chunks(LIST_MAX) {
        let list = int_list(part.iter().map(|user| user.0));
        let rows: Vec<(i64, String, String)> = read_list!(db, SHOWN, |sql, c| {
            sql::query_as(sql).bind(list).bind(DISPLAYNAME).bind(AVATAR_URL).fetch_all(c)
        })?;
        for (user, field, text) in rows {
            let user = UserNid(user);
            let value = parse(user, &text)?.as_str().map(str::to_owned);
            if found.last().is_none_or(|(last, _)| *last != user) {
                found.push((user, Shown::default()));
            }
            let Some((_, shown)) = found.last_mut() else { continue };
            match field.as_str() {
                DISPLAYNAME => shown.displayname = value,
                _ => shown.avatar_url = value,
            }
        }
    }
    Ok(found)
}

/// Stores a field; `None` deletes it.
///
/// # Errors
/// When the database fails.
pub async fn set(tx: &mut Tx, user: UserNid, field: String, value: Option<Value>) -> Result<()> {
    const PUT: &str = "INSERT INTO profiles (user_nid, field, value) VALUES ($1, $2, $3) \
         ON CONFLICT (user_nid, field) DO UPDATE SET value = excluded.value";
    const DELETE: &str = "DELETE FROM profiles WHERE user_nid = $1 AND field = $2";
    match value {
        Some(value) => {
            execute!(tx, sql::query(PUT).bind(user.0).bind(field).bind(value.to_string()))?
        }
        None => execute!(tx, sql::query(DELETE).bind(user.0).bind(field))?,
    };
    Ok(())
}

/// Deletes a whole profile.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, user: UserNid) -> Result<()> {
    const DELETE: &str = "DELETE FROM profiles WHERE user_nid = $1";
    execute!(tx, sql::query(DELETE).bind(user.0)).map(drop)
}

fn parse(user: UserNid, text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| StorageError::corrupt("profiles", "value", user, error))
}
