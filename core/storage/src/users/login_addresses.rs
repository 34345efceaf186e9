//! Where users logged in. From there they still can when strangers guess at their passwords.

use colonnade_model::nid::UserNid;

use crate::{Database, Tx, database::sql, error::Result};

/// Networks remembered for one user: home, work, some mobile ones, and room for travels.
pub const KEPT_MAX: i64 = 30;

/// Notes that a user logged in from a network, and forgets the oldest.
///
/// # Errors
/// When the database fails.
pub async fn note(tx: &mut Tx, user: UserNid, network: String, now_ms: i64) -> Result<()> {
    const NOTE: &str = "INSERT INTO login_addresses (user_nid, network, seen_ts) \
         VALUES ($1, $2, $3) ON CONFLICT (user_nid, network) DO UPDATE \
         SET seen_ts = excluded.seen_ts";
    const PRUNE: &str = "DELETE FROM login_addresses WHERE user_nid = $1 AND network NOT IN \
         (SELECT network FROM login_addresses WHERE user_nid = $1 \
         ORDER BY seen_ts DESC LIMIT $2)";
    execute!(tx, sql::query(NOTE).bind(user.0).bind(network).bind(now_ms))?;
    execute!(tx, sql::query(PRUNE).bind(user.0).bind(KEPT_MAX)).map(drop)
}

/// Returns the networks a user logged in from, and the addresses his devices were last seen at.
///
/// # Errors
/// When the database fails.
pub async fn of_user(db: &Database, user: UserNid) -> Result<Vec<String>> {
    const KNOWN: &str = "SELECT network FROM login_addresses WHERE user_nid = $1 \
         UNION SELECT last_seen_ip FROM devices WHERE user_nid = $1 AND last_seen_ip IS NOT NULL";
    read!(db, |c| sql::query_scalar(KNOWN).bind(user.0).fetch_all(c))
}

/// Forgets where a user logged in.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, user: UserNid) -> Result<()> {
    const FORGET: &str = "DELETE FROM login_addresses WHERE user_nid = $1";
    execute!(tx, sql::query(FORGET).bind(user.0)).map(drop)
}
