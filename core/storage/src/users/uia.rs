//! Sessions of user-interactive authentication: which stages of which request somebody has done. Each
//! belongs to an owner, a user or the address of who has no account yet, who has so many at a time:
//! nobody ends the sessions of others. While a session holds a registration token, a use of that is
//! pending; `registration_tokens` counts those that led to an account.

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
    /// Among whose sessions it counts.
    pub owner: String,
    /// The stages done.
    pub completed: Vec<String>,
    /// The digest of the registration token it holds; empty: none.
    pub token: String,
    /// When it was opened, in milliseconds since the Unix epoch.
    pub created_ts: i64,
    /// What was asked for when it was opened, as JSON; empty: nothing that is remembered.
    pub request: String,
    /// The user that it led to; empty: none yet.
    pub made: String,
}

/// How many sessions there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Those opened before this instant count no more, in milliseconds since the Unix epoch.
    pub oldest_ts: i64,
    /// Of one owner; beyond it his oldest ends.
    pub owned_max: i64,
    /// Of all owners who are no user; beyond it no more of them are opened.
    pub strangers_max: i64,
}

/// Opens a session; false when strangers have too many.
///
/// # Errors
/// When the database fails.
pub async fn open(tx: &mut Tx, session: UiaSession, bounds: Bounds) -> Result<bool> {
    const EXPIRE: &str = "DELETE FROM uia_sessions WHERE created_ts < $1";
    const EVICT: &str = "DELETE FROM uia_sessions WHERE owner = $1 AND session NOT IN \
         (SELECT session FROM uia_sessions WHERE owner = $1 ORDER BY created_ts DESC LIMIT $2)";
    const STRANGERS: &str = "SELECT CAST(count(*) AS BIGINT) FROM \
         (SELECT 1 FROM uia_sessions WHERE user_nid = 0 LIMIT $1) counted";
    const PUT: &str = "INSERT INTO uia_sessions \
         (session, action, user_nid, owner, completed, token, created_ts, request) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    execute!(tx, sql::query(EXPIRE).bind(bounds.oldest_ts))?;
    execute!(tx, sql::query(EVICT).bind(session.owner.clone()).bind(bounds.owned_max - 1))?;
    if session.user.is_none() {
        let max = bounds.strangers_max;
        let count: i64 = run!(tx, |c| sql::query_scalar(STRANGERS).bind(max).fetch_one(c))?;
        if count >= max {
            return Ok(false);
        }
    }
    execute!(
        tx,
        sql::query(PUT)
            .bind(session.session)
            .bind(session.action)
            .bind(session.user.map_or(0, |user| user.0))
            .bind(session.owner)
            .bind(session.completed.join(" "))
            .bind(session.token)
            .bind(session.created_ts)
            .bind(session.request)
    )?;
    Ok(true)
}

/// Returns a session opened at or after `oldest_ts`.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, session: &str, oldest_ts: i64) -> Result<Option<UiaSession>> {
    const FIND: &str = "SELECT action, user_nid, owner, completed, token, created_ts, request, made \
         FROM uia_sessions WHERE session = $1 AND created_ts >= $2";
    type Row = (String, i64, String, String, String, i64, String, String);
    let row: Option<Row> = read!(db, |c| sql::query_as(FIND)
        .bind(session.to_owned())
        .bind(oldest_ts)
        .fetch_optional(c))?;
    Ok(row.map(|(action, user, owner, completed, token, created_ts, request, made)| UiaSession {
        session: session.to_owned(),
        action,
        user: (user != 0).then_some(UserNid(user)),
        owner,
        completed: stages(&completed),
        token,
        created_ts,
        request,
        made,
    }))
}

/// A registration token that a stage wants to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Its digest.
    pub token: String,
    /// How many accounts it is good for; `None`: any number.
    pub uses_max: Option<i64>,
    /// Sessions opened before this instant hold nothing any more.
    pub oldest_ts: i64,
}

/// What became of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passed {
    /// It is noted; these are done now.
    Noted(Vec<String>),
    /// The session has ended.
    Gone,
    /// The registration token is used up, or held by others who may use it up.
    UsedUp,
}

/// Notes that a stage of a session is done. The session is read in the same transaction: two stages
/// done at the same time both count, and no session comes back that ended.
///
/// # Errors
/// When the database fails.
pub async fn pass(
    tx: &mut Tx,
    session: String,
    stage: &'static str,
    hold: Option<Hold>,
) -> Result<Passed> {
    const DONE: &str = "SELECT completed, token FROM uia_sessions WHERE session = $1";
    const NOTE: &str = "UPDATE uia_sessions SET completed = $2, token = $3 WHERE session = $1";
    let known: Option<(String, String)> =
        run!(tx, |c| sql::query_as(DONE).bind(session.clone()).fetch_optional(c))?;
    let Some((completed, mut token)) = known else { return Ok(Passed::Gone) };
    if let Some(hold) = hold {
        if hold.token != token
            && let Some(max) = hold.uses_max
            && uses(tx, &hold.token, hold.oldest_ts).await? >= max
        {
            return Ok(Passed::UsedUp);
        }
        token = hold.token;
    }
    let mut completed = stages(&completed);
    if !completed.iter().any(|done| done == stage) {
        completed.push(stage.to_owned());
    }
    let text = completed.join(" ");
    execute!(tx, sql::query(NOTE).bind(session).bind(text).bind(token))?;
    Ok(Passed::Noted(completed))
}

/// Ends a session; false when it had ended already, so that only one request can use it.
///
/// # Errors
/// When the database fails.
pub async fn end(tx: &mut Tx, session: String) -> Result<bool> {
    const END: &str = "DELETE FROM uia_sessions WHERE session = $1";
    Ok(execute!(tx, sql::query(END).bind(session))? == 1)
}

/// Ends a session that led to a user, and keeps its name with that until it is too old; false when it had ended
/// already, so that only one request can use it.
///
/// # Errors
/// When the database fails.
pub async fn finish(tx: &mut Tx, session: String, made: String) -> Result<bool> {
    const FINISH: &str = "UPDATE uia_sessions SET made = $2, request = '', token = '' \
         WHERE session = $1 AND made = ''";
    Ok(execute!(tx, sql::query(FINISH).bind(session).bind(made))? == 1)
}

/// Notes that a registration token led to an account.
///
/// # Errors
/// When the database fails.
pub async fn token_used(tx: &mut Tx, token: String) -> Result<()> {
    const USED: &str = "INSERT INTO registration_tokens (token, completed) VALUES ($1, 1) \
         ON CONFLICT (token) DO UPDATE SET completed = registration_tokens.completed + 1";
    execute!(tx, sql::query(USED).bind(token)).map(drop)
}

/// Returns how many accounts a registration token led to, with those it may be leading to in sessions
/// opened at or after `oldest_ts`.
///
/// # Errors
/// When the database fails.
pub async fn token_uses(db: &Database, token: &str, oldest_ts: i64) -> Result<i64> {
    read!(db, |c| sql::query_scalar(USES).bind(token.to_owned()).bind(oldest_ts).fetch_one(c))
}

const USES: &str = "SELECT CAST(COALESCE((SELECT completed FROM registration_tokens \
     WHERE token = $1), 0) + (SELECT count(*) FROM uia_sessions WHERE token = $1 \
     AND created_ts >= $2) AS BIGINT)";

async fn uses(tx: &mut Tx, token: &str, oldest_ts: i64) -> Result<i64> {
    run!(tx, |c| sql::query_scalar(USES).bind(token.to_owned()).bind(oldest_ts).fetch_one(c))
}

fn stages(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
