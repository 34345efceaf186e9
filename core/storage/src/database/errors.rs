//! What an error of an engine means to us, and what mends it.

use sqlx::error::{DatabaseError, ErrorKind};

use super::sql::NotText;
use crate::error::StorageError;

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
