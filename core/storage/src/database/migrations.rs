//! Schema migrations: the same numbers and names for both engines, applied at start.

use std::{borrow::Cow, path::Path};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{Lock, postgres::message};
use crate::error::{Result, StorageError};

/// Lists the migrations: number, name. Applied ones are never edited; a new one takes a new number.
macro_rules! migrations {
    ($engine:literal) => {
        migrations!($engine;
            1 "0001_foundation",
            2 "0002_rooms",
            3 "0003_accounts",
            4 "0004_user_data",
            5 "0005_encryption",
            6 "0006_receipts",
            7 "0007_media",
            8 "0008_directory",
            9 "0009_push_rules",
            10 "0010_ignored",
            11 "0011_search",
            13 "0013_ownership",
            14 "0014_writers",
            16 "0016_gaps",
            17 "0017_tenure",
            18 "0018_chores",
        )
    };
    ($engine:literal; $($number:literal $name:literal,)*) => {
        &[$((
            $number,
            $name,
            include_str!(concat!("../../../../migrations/", $engine, "/", $name, ".sql")),
        )),*]
    };
}

const SQLITE: &[(i64, &str, &str)] = migrations!("sqlite");
const POSTGRES: &[(i64, &str, &str)] = migrations!("postgres");

/// Brings an SQLite file up to date.
pub(super) async fn sqlite(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let ran = migrator(SQLITE).run_direct(None, connection, false).await;
    ran.map_err(|error| unusable(&path.display().to_string(), &error))
}

/// Brings a PostgreSQL database up to date, in one transaction: several processes may try at once,
/// and what fails leaves nothing behind. The lock is the transaction's, so that it works through a
/// pooler.
pub(super) async fn postgres(connection: &mut PgConnection, place: &str) -> Result<()> {
    // Begun by sqlx, which makes the transaction of each migration a savepoint in it then; one it does
    // not know of would end with the first of them, and the lock too.
    let mut whole = connection.begin().await?;
    message(&mut whole, Lock::Schema.take_sql()).await?;
    let mut migrator = migrator(POSTGRES);
    migrator.set_locking(false);
    let ran = migrator.run_direct(None, &mut *whole, false).await;
    match ran {
        Ok(()) => Ok(whole.commit().await?),
        Err(error) => {
            let _undone_by_the_server_else = whole.rollback().await;
            Err(unusable(place, &error))
        }
    }
}

/// Returns the names of those migrations that are not among the applied ones.
pub(super) fn pending(applied: &[i64], place: &str) -> Result<Vec<String>> {
    // Both engines have the same numbers and names.
    let newest = SQLITE.last().map_or(0, |(number, ..)| *number);
    if let Some(newer) = applied.iter().find(|number| **number > newest) {
        return Err(unusable(place, &sqlx::migrate::MigrateError::VersionMissing(*newer)));
    }
    let missing = SQLITE.iter().filter(|(number, ..)| !applied.contains(number));
    Ok(missing.map(|(_, name, _)| (*name).to_owned()).collect())
}

fn migrator(texts: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = texts.iter().map(|(number, name, sql)| {
        Migration::new(
            *number,
            Cow::Borrowed(*name),
            MigrationType::Simple,
            AssertSqlSafe(*sql).into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

fn unusable(place: &str, error: &sqlx::migrate::MigrateError) -> StorageError {
    use sqlx::migrate::MigrateError;
    StorageError::Unusable(match error {
        MigrateError::VersionMissing(number) => format!(
            "the database {place} has migration {number}, which this version of colonnade does \
             not know: it was used by a newer version; start that one"
        ),
        MigrateError::VersionMismatch(number) => format!(
            "migration {number} of the database {place} is not the one this version of colonnade \
             has: it was made by a development version; start that one, or restore a backup"
        ),
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)
            if cause.as_database_error().and_then(|cause| cause.code()).as_deref()
                == Some("42501") =>
        {
            format!(
                "the tables of {place} cannot be made or changed ({cause}): make that user the \
                 owner of the database, ALTER DATABASE … OWNER TO …"
            )
        }
        other => format!("cannot bring the tables of {place} up to date: {other}"),
    })
}
