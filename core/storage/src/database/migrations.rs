//! Schema migrations: the same numbers and names for both engines, applied at start.
//!
//! Invariants:
//! 1. A process runs on a schema newer than it knows only if that was expanded and nothing more: the
//!    database says since which migration a process has to know it (`cluster.schema_known_min`).
//! 2. What takes something away says so in its first line, `-- contracting: needs 0019`, and is not
//!    applied while a process lives that knows less than that.

mod contract;
mod step;

use std::{borrow::Cow, path::Path, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqlSafeStr as _, SqliteConnection,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

pub use self::step::{Change, Pending};
use self::step::{Step, newest};
use super::{locks::Lock, postgres::message};
use crate::database::sql;
use crate::error::{Result, StorageError};

pub(super) use contract::Found;

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
            19 "0019_beside",
            20 "0020_inboxes",
            21 "0021_sessions",
            24 "0024_login_tokens",
            30 "0030_media_owners",
            31 "0031_alias_owners",
            32 "0032_report_owners",
            33 "0033_openid_owners",
            34 "0034_login_token_owners",
            44 "0044_federation",
            48 "0048_shared_rooms",
            49 "0049_device_messages",
            50 "0050_told_device_lists",
            51 "0051_remote_devices",
            52 "0052_remote_media",
            53 "0053_ended_invitations",
            54 "0054_answers_by_key",
            59 "0059_guests",
            61 "0061_remembered_registrations",
            62 "0062_push_delivery",
            63 "0063_push_outcomes",
            64 "0064_redacted_notifications",
            69 "0069_entering_rooms",
            70 "0070_restricted_accounts",
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

/// A migration as it is built in: number, name, text.
type BuiltIn = (i64, &'static str, &'static str);

const SQLITE: &[BuiltIn] = migrations!("sqlite");
const POSTGRES: &[BuiltIn] = migrations!("postgres");

/// The newest migration that is built in; both engines have the same.
pub(crate) const KNOWN: i64 = match SQLITE.last() {
    Some((number, ..)) => *number,
    None => 0,
};
/// How long a statement of a migration waits for a table that servers use. While it waits, everybody
/// else waits behind it for the same table.
const TABLE_PATIENCE_MS: u32 = 1_000;
/// How often a migration begins anew that did not get its tables.
const TRIES_MAX: u32 = 30;
/// The pause before it does, in which servers go on.
const PAUSE: Duration = Duration::from_millis(500);

/// Brings an SQLite file up to date.
pub(super) async fn sqlite(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let place = path.display().to_string();
    let steps = steps(SQLITE, None)?;
    let found = Found::in_sqlite(connection).await?;
    let pending = found.compare(&steps, &place)?;
    warn_of_newer(&pending, &place);
    let unusable = |error: MigrateError| unusable(&place, &error);
    let migrator = migrator(&steps);
    for change in &pending.missing {
        if let Some(needs) = change.needs {
            // Before and not after: a crash between the two leaves nobody with less than he needs.
            sql::query(contract::RAISE).bind(needs).execute(&mut *connection).await?;
        }
        migrator.run_direct(Some(change.number), connection, false).await.map_err(unusable)?;
    }
    // Looks at the texts of those that are there, too.
    migrator.run_direct(None, connection, false).await.map_err(unusable)
}

/// Brings a PostgreSQL database up to date: an empty one in one transaction, another in one for each
/// migration, since servers may be using it. Several processes may try at once, and what fails leaves
/// nothing behind. The lock is the transaction's, so that it works through a pooler. Returns the newest
/// migration that this process knows.
pub(super) async fn postgres(
    connection: &mut PgConnection,
    place: &str,
    next: Option<&Path>,
) -> Result<i64> {
    let steps = steps(POSTGRES, next)?;
    let mut tried = 0;
    while tried < TRIES_MAX {
        match attempt(connection, place, &steps).await {
            Ok(More::Nothing) => return Ok(newest(&steps)),
            Ok(More::Something) => tried = 0,
            Err(Trouble::InTheWay) => {
                tried += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(Trouble::Other(error)) => return Err(error),
        }
    }
    Err(StorageError::Unusable(format!(
        "the tables of {place} cannot be changed, for something else holds them: look for long \
         transactions in pg_stat_activity, a backup say, and try again"
    )))
}

/// Whether a database lacks more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum More {
    Nothing,
    Something,
}

/// Why an attempt failed.
enum Trouble {
    /// Somebody else has a table that a migration wants, for too long or crosswise.
    InTheWay,
    Other(StorageError),
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Contended(_) => Self::InTheWay,
            other => Self::Other(other),
        }
    }
}

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        StorageError::from(error).into()
    }
}

/// Applies what an empty database lacks, or the first of what another does.
async fn attempt(
    connection: &mut PgConnection,
    place: &str,
    steps: &[Step],
) -> Result<More, Trouble> {
    // Begun by sqlx, which makes the transaction of each migration a savepoint in it then; one it does
    // not know of would end with the first of them, and the lock too.
    let mut whole = connection.begin().await?;
    message(&mut whole, Lock::Schema.take_sql()).await?;
    message(&mut whole, format!("SET LOCAL lock_timeout = {TABLE_PATIENCE_MS}")).await?;
    match apply(&mut whole, place, steps).await {
        Ok(more) => {
            whole.commit().await?;
            Ok(more)
        }
        Err(trouble) => {
            let _undone_by_the_server_else = whole.rollback().await;
            Err(trouble)
        }
    }
}

async fn apply(
    connection: &mut PgConnection,
    place: &str,
    steps: &[Step],
) -> Result<More, Trouble> {
    let found = Found::in_postgres(connection).await?;
    let pending = found.compare(steps, place)?;
    let trouble = |error: MigrateError| match code(&error).as_deref() {
        Some("55P03" | "40P01") => Trouble::InTheWay,
        _ => Trouble::Other(unusable(place, &error)),
    };
    let mut migrator = migrator(steps);
    migrator.set_locking(false);
    let (mut until, mut needs) = (None, pending.missing.iter().filter_map(|c| c.needs).max());
    if let Some(first) = pending.missing.first().filter(|_| !found.is_empty()) {
        (until, needs) = (Some(first.number), first.needs);
        if let Some(needs) = needs {
            contract::refuse_older(connection, needs, place).await?;
        }
    }
    migrator.run_direct(until, connection, false).await.map_err(trouble)?;
    if let Some(needs) = needs {
        sql::query(contract::RAISE).bind(needs).execute(&mut *connection).await?;
    }
    if until.is_some() && pending.missing.len() > 1 {
        return Ok(More::Something);
    }
    warn_of_newer(&pending, place);
    Ok(More::Nothing)
}

/// Returns what a PostgreSQL database lacks, and refuses as [`postgres`] would.
pub(super) async fn postgres_pending(
    connection: &mut PgConnection,
    place: &str,
    next: Option<&Path>,
) -> Result<Pending> {
    let steps = steps(POSTGRES, next)?;
    let mut whole = connection.begin().await?;
    let found = Found::in_postgres(&mut whole).await?;
    let pending = found.compare(&steps, place)?;
    if let Some(needs) = pending.missing.iter().filter_map(|change| change.needs).max()
        && found.knows_processes()
    {
        contract::refuse_older(&mut whole, needs, place).await?;
    }
    whole.rollback().await?;
    Ok(pending)
}

/// Returns what an SQLite file lacks of which this was found.
pub(super) fn sqlite_pending(found: &Found, place: &str) -> Result<Pending> {
    found.compare(&steps(SQLITE, None)?, place)
}

/// Returns the migrations in their order, and after those built in the ones of a version to come, if a
/// test names their folder: `9001_name.sql` and so on.
fn steps(built_in: &[BuiltIn], next: Option<&Path>) -> Result<Vec<Step>> {
    let built_in = built_in.iter().map(|(number, name, sql)| Step {
        number: *number,
        name: Cow::Borrowed(name),
        sql: Cow::Borrowed(sql),
    });
    let mut steps: Vec<Step> = built_in.collect();
    if let Some(folder) = next {
        let unreadable = |why: &str| {
            StorageError::Unusable(format!("no migrations in {}: {why}", folder.display()))
        };
        for entry in std::fs::read_dir(folder).map_err(|error| unreadable(&error.to_string()))? {
            let path = entry.map_err(|error| unreadable(&error.to_string()))?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let number = name.split('_').next().and_then(|number| number.parse().ok());
            let number = number.ok_or_else(|| unreadable("a name has no number"))?;
            let sql = std::fs::read_to_string(&path);
            let sql = sql.map_err(|error| unreadable(&error.to_string()))?.into();
            steps.push(Step { number, name: name.to_owned().into(), sql });
        }
        steps.sort_by_key(|step| step.number);
    }
    Ok(steps)
}

fn warn_of_newer(pending: &Pending, place: &str) {
    if !pending.newer.is_empty() {
        tracing::warn!(
            database = place, migrations = ?pending.newer,
            "a newer version of colonnade changed this database in ways this one may ignore"
        );
    }
}

fn migrator(steps: &[Step]) -> Migrator {
    let migrations = steps.iter().map(|step| {
        Migration::new(
            step.number,
            step.name.clone(),
            MigrationType::Simple,
            AssertSqlSafe(step.sql.clone().into_owned()).into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    // Which unknown ones we may live with was decided before.
    migrator.set_ignore_missing(true);
    migrator
}

/// What the database calls the error of a statement.
fn code(error: &MigrateError) -> Option<String> {
    let (MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) = error else {
        return None;
    };
    Some(cause.as_database_error()?.code()?.into_owned())
}

fn unusable(place: &str, error: &MigrateError) -> StorageError {
    StorageError::Unusable(match error {
        MigrateError::VersionMismatch(number) => format!(
            "migration {number} of the database {place} is not the one this version of colonnade \
             has: it was made by a development version; start that one, or restore a backup"
        ),
        MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)
            if code(error).as_deref() == Some("42501") =>
        {
            format!(
                "the tables of {place} cannot be made or changed ({cause}): make that user the \
                 owner of the database, ALTER DATABASE … OWNER TO …"
            )
        }
        other => format!("cannot bring the tables of {place} up to date: {other}"),
    })
}

#[cfg(test)]
mod tests;
