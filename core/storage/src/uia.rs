//! Sessions of user-interactive authentication: which stages of which request somebody has done.

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result};

/// A session under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UiaSession {
    /// Its name, unguessable.
    pub session: String,
    /// The request it was opened for.
    pub action: String,
    /// Who opened it; `None` before there is a user.
    pub user: Option<UserNid>,
    /// The stages done.
    pub completed: Vec<String>,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub created_ts: i64,
}

/// Stores a session, new or further on. Forgets those opened before `oldest_ts`, and the oldest
/// ones beyond `count_max`.
///
/// # Errors
/// When the database fails.
pub async fn put(tx: &mut Tx, session: UiaSession, oldest_ts: i64, count_max: i64) -> Result<()> {
    const EXPIRE: &str = "DELETE FROM uia_sessions WHERE created_ts < $1";
    const EVICT: &str = "DELETE FROM uia_sessions WHERE created_ts <= \
         (SELECT created_ts FROM uia_sessions ORDER BY created_ts DESC LIMIT 1 OFFSET $1)";
    const PUT: &str = "INSERT INTO uia_sessions (session, action, user_nid, completed, created_ts) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (session) DO UPDATE SET completed = excluded.completed";
    execute!(tx, sql::query(EXPIRE).bind(oldest_ts))?;
    execute!(tx, sql::query(EVICT).bind(count_max))?;
    execute!(
        tx,
        sql::query(PUT)
            .bind(session.session)
            .bind(session.action)
            .bind(session.user.map_or(0, |user| user.0))
            .bind(session.completed.join(" "))
            .bind(session.created_ts)
    )?;
    Ok(())
}

/// Returns a session opened at or after `oldest_ts`.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, session: &str, oldest_ts: i64) -> Result<Option<UiaSession>> {
    const FIND: &str = "SELECT action, user_nid, completed, created_ts FROM uia_sessions \
         WHERE session = $1 AND created_ts >= $2";
    let row: Option<(String, i64, String, i64)> = read!(db, |c| sql::query_as(FIND)
        .bind(session.to_owned())
        .bind(oldest_ts)
        .fetch_optional(c))?;
    Ok(row.map(|(action, user, completed, created_ts)| UiaSession {
        session: session.to_owned(),
        action,
        user: (user != 0).then_some(UserNid(user)),
        completed: completed.split_whitespace().map(str::to_owned).collect(),
        created_ts,
    }))
}

/// Ends a session; false when it had ended already, so that only one request can use it.
///
/// # Errors
/// When the database fails.
pub async fn end(tx: &mut Tx, session: String) -> Result<bool> {
    const END: &str = "DELETE FROM uia_sessions WHERE session = $1";
    Ok(execute!(tx, sql::query(END).bind(session))? == 1)
}
