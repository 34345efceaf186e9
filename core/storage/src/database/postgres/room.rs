//! Whether the server has connections enough for all processes of the deployment. Only warns: a
//! server that is too small works until many are busy at once, and then reads wait or answer 503.

use sqlx::PgConnection;

use crate::{
    database::{Lock, sql},
    error::Result,
};

/// What the server has for users who are not superusers; the limits of this database and this user,
/// below 0 for none; how many processes of ours hold the lock of the database already.
type Room = (i64, i64, i64, i64);

/// Warns when this process and those that run already could open more connections than there are.
/// `each` is what one process opens at most.
pub(super) async fn look(connection: &mut PgConnection, place: &str, each: u32) -> Result<()> {
    const ROOM: &str = "SELECT CAST(current_setting('max_connections') AS BIGINT) \
         - CAST(current_setting('superuser_reserved_connections') AS BIGINT) \
         - COALESCE(CAST(current_setting('reserved_connections', true) AS BIGINT), 0), \
         (SELECT CAST(datconnlimit AS BIGINT) FROM pg_database WHERE datname = current_database()), \
         (SELECT CAST(rolconnlimit AS BIGINT) FROM pg_roles WHERE rolname = current_user), \
         (SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database \
          WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
          AND d.datname = current_database() \
          AND CAST(classid AS BIGINT) = $1 AND CAST(objid AS BIGINT) = $2)";
    let key = Lock::Database.key();
    let room: Room =
        sql::query_as(ROOM).bind(key >> 32).bind(key & 0xffff_ffff).fetch_one(connection).await?;
    if let Some(warning) = warning(room, each) {
        tracing::warn!(database = %place, "{warning}");
    }
    Ok(())
}

/// Says what is too small, and what helps.
fn warning((server, database, user, others): Room, each: u32) -> Option<String> {
    let limits = [
        (server, "raise max_connections of the server"),
        (database, "raise the CONNECTION LIMIT of the database"),
        (user, "raise the CONNECTION LIMIT of the user"),
    ];
    let limited = limits.into_iter().filter(|(limit, _)| *limit >= 0);
    let (limit, mend) = limited.min_by_key(|(limit, _)| *limit)?;
    let processes = others + 1;
    let needed = processes * i64::from(each);
    (needed > limit).then(|| {
        format!(
            "{processes} processes may open {needed} connections ({each} each), and {limit} are \
             allowed: {mend}, lower database.connections_max, or put a pooler in between"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_is_named() {
        assert_eq!(warning((97, -1, -1, 8), 10), None);
        let said = warning((97, -1, -1, 9), 10).unwrap();
        assert!(said.starts_with("10 processes may open 100 connections (10 each), and 97"));
        assert!(said.contains("raise max_connections of the server"), "{said}");
        let said = warning((97, 50, 8, 0), 10).unwrap();
        assert!(said.contains("and 8 are allowed: raise the CONNECTION LIMIT of the user"));
        assert!(warning((97, 5, 8, 0), 10).unwrap().contains("of the database"));
        assert!(warning((97, 0, -1, 0), 6).is_some(), "no connection at all is a limit, too");
    }
}
