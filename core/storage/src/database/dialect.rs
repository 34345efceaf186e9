//! What differs between the engines, hidden behind macros: which pool a statement runs on, how a
//! list is bound, and which errors mean what.

use sqlx::error::{DatabaseError, ErrorKind};

use super::sql::NotText;
use crate::error::StorageError;

/// Runs one read on the engine that is open: `read!(db, |c| query.bind(x).fetch_one(c))`.
macro_rules! read {
    ($db:expr, |$c:ident| $query:expr) => {
        match &$db.engine {
            $crate::database::Engine::Sqlite(engine) => {
                let $c = engine.reader();
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::Engine::Postgres(engine) => match engine.reader().await {
                Ok(mut reader) => {
                    let $c = &mut *reader;
                    let answer = $query.await;
                    reader.done(answer)
                }
                Err(error) => Err(error),
            },
        }
    };
}

/// Runs one statement inside a transaction: `run!(tx, |c| query.bind(x).execute(c))`.
macro_rules! run {
    ($tx:expr, |$c:ident| $query:expr) => {
        match &mut $tx.connection {
            $crate::database::tx::Connection::Sqlite(connection) => {
                let $c = &mut **connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::tx::Connection::Postgres(connection) => {
                let $c = &mut ***connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
        }
    };
}

/// Runs a statement that returns no rows and gives the number of rows it changed:
/// `execute!(tx, sql::query(SQL).bind(x))`.
macro_rules! execute {
    ($tx:expr, $query:expr) => {
        match &mut $tx.connection {
            $crate::database::tx::Connection::Sqlite(connection) => $query
                .execute(&mut **connection)
                .await
                .map(|done| done.rows_affected())
                .map_err($crate::error::StorageError::from),
            $crate::database::tx::Connection::Postgres(connection) => $query
                .execute(&mut ***connection)
                .await
                .map(|done| done.rows_affected())
                .map_err($crate::error::StorageError::from),
        }
    };
}

/// Runs a statement whose text differs between the engines; `$sql` names the chosen text. For lists:
/// bind ONE JSON array text and write `IN (SELECT value FROM json_each($1))` for SQLite,
/// `IN (SELECT CAST(jsonb_array_elements_text(CAST($1 AS jsonb)) AS BIGINT))` for PostgreSQL.
/// [`list_sql`] makes both from one text with `{LIST n}`.
macro_rules! read_list {
    ($db:expr, $sql:expr, |$text:ident, $c:ident| $query:expr) => {
        match &$db.engine {
            $crate::database::Engine::Sqlite(engine) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, false));
                let $c = engine.reader();
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::Engine::Postgres(engine) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, true));
                match engine.reader().await {
                    Ok(mut reader) => {
                        let $c = &mut *reader;
                        let answer = $query.await;
                        reader.done(answer)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    };
}

/// [`read_list`] inside a transaction.
macro_rules! run_list {
    ($tx:expr, $sql:expr, |$text:ident, $c:ident| $query:expr) => {
        match &mut $tx.connection {
            $crate::database::tx::Connection::Sqlite(connection) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, false));
                let $c = &mut **connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
            $crate::database::tx::Connection::Postgres(connection) => {
                let $text = sqlx::AssertSqlSafe($crate::database::list_sql($sql, true));
                let $c = &mut ***connection;
                $query.await.map_err($crate::error::StorageError::from)
            }
        }
    };
}

/// Expands `{INTS n}` and `{TEXTS n}` in a statement into "the values of the JSON array bound to
/// parameter n", and `{NOW_MS}` into the time by the database's clock, in milliseconds since 1970, as
/// the engine wants it said. The statement itself is a constant of ours.
pub(crate) fn list_sql(sql: &'static str, postgres: bool) -> String {
    let mut text = String::with_capacity(sql.len() + 80);
    let mut rest = sql;
    while let Some((before, after)) = rest.split_once('{') {
        let (what, tail) = after.split_once('}').expect("statements close their braces");
        let (kind, n) = what.split_once(' ').unwrap_or((what, ""));
        text.push_str(before);
        match (postgres, kind) {
            (false, "NOW_MS") => text.push_str("CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
            (true, "NOW_MS") => {
                text.push_str("CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)");
            }
            (false, _) => text.push_str(&format!("(SELECT value FROM json_each(${n}))")),
            (true, "INTS") => text.push_str(&format!(
                "(SELECT CAST(value AS BIGINT) AS value FROM jsonb_array_elements_text(CAST(${n} AS jsonb)))"
            )),
            (true, _) => text.push_str(&format!(
                "(SELECT value FROM jsonb_array_elements_text(CAST(${n} AS jsonb)))"
            )),
        }
        rest = tail;
    }
    text.push_str(rest);
    text
}

/// Renders integers as the JSON array that `{INTS n}` binds.
pub(crate) fn int_list(values: impl IntoIterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for (n, value) in values.into_iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        text.push_str(&value.to_string());
    }
    text.push(']');
    text
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(cause) => match cause.kind() {
                ErrorKind::UniqueViolation => Self::Conflict(cause.message().to_owned()),
                _ if is_contended(cause.code().as_deref()) => {
                    Self::Contended(cause.message().to_owned())
                }
                _ if is_passing(cause.code().as_deref()) => Self::Unavailable(with_mend(&*cause)),
                _ => Self::Failed(with_mend(&*cause)),
            },
            sqlx::Error::ColumnDecode { index, source } => {
                Self::Corrupt { table: "?", column: "?", key: index, why: source.to_string() }
            }
            sqlx::Error::Encode(cause) if cause.is::<NotText>() => Self::NotText,
            sqlx::Error::Io(cause) => Self::Unavailable(cause.to_string()),
            sqlx::Error::PoolTimedOut => {
                Self::Unavailable("no connection became free in time".to_owned())
            }
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable("the database is being closed".to_owned())
            }
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Says what the database said, and what the operator can do where that is known.
fn with_mend(cause: &dyn DatabaseError) -> String {
    let mend = match cause.code().as_deref() {
        Some("53100") => {
            "the disk of the database is full: make room there, and writes go on by themselves"
        }
        Some("53300") => {
            "the database has no connections left: raise max_connections of the server, or lower \
             database.connections_max"
        }
        Some("26000" | "42P05") => {
            "a pooler that mixes up prepared statements stands before the database: use PgBouncer \
             1.21 or newer with max_prepared_statements = 512, or name the server itself in \
             database.url"
        }
        _ => return cause.message().to_owned(),
    };
    format!("{}; {mend}", cause.message())
}

/// Tells whether the same statement may work later: SQLite's BUSY, LOCKED, IOERR, FULL; PostgreSQL's
/// classes 08 (connection), 25P03 (idle in a transaction), 53 (resources), 57 (operator intervention).
fn is_passing(code: Option<&str>) -> bool {
    let Some(code) = code else { return false };
    match code.parse::<i64>() {
        Ok(number) if code.len() < 5 => matches!(number & 0xff, 5 | 6 | 10 | 13),
        _ => ["08", "53", "57"].iter().any(|class| code.starts_with(class)) || code == "25P03",
    }
}

/// Tells whether the transaction had to give way to another: PostgreSQL's serialization failures,
/// deadlocks and lock timeouts.
fn is_contended(code: Option<&str>) -> bool {
    matches!(code, Some("40001" | "40P01" | "55P03"))
}
