//! Who may run beside whom: what a database says of itself, and what a migration says that takes
//! something away. Changes nothing.

use sqlx::{PgConnection, SqliteConnection};

use super::step::{Change, PROCESSES_SINCE, Pending, Step, newest};
use crate::{
    database::{Lock, sql},
    error::{Result, StorageError},
};

/// How the first line of a migration begins that takes something away. The number after it is the
/// newest migration a process has to know to do without.
const DECLARATION: &str = "-- contracting: needs ";
/// Says who may run on this database from now on.
pub(super) const RAISE: &str =
    "UPDATE cluster SET value = $1 WHERE key = 'schema_known_min' AND value < $1";
const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
const KNOWN_MIN: &str = "SELECT value FROM cluster WHERE key = 'schema_known_min'";

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// The migrations that were applied.
    applied: Vec<i64>,
    /// The newest migration a process has to know to run on it; `None` before anybody said so.
    known_min: Option<i64>,
}

/// Reads it over a connection of either engine, once it is known that there are migrations.
macro_rules! read_found {
    ($connection:expr) => {{
        let applied = sql::query_scalar(APPLIED).fetch_all(&mut *$connection).await?;
        let mut found = Found { applied, known_min: None };
        if found.knows_processes() {
            found.known_min = sql::query_scalar(KNOWN_MIN).fetch_optional($connection).await?;
        }
        Ok(found)
    }};
}

impl Found {
    /// Reads it from an SQLite file, empty or not.
    pub(crate) async fn in_sqlite(connection: &mut SqliteConnection) -> Result<Self> {
        const ANY: &str = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
        let any: i64 = sql::query_scalar(ANY).fetch_one(&mut *connection).await?;
        if any == 0 {
            return Ok(Self::default());
        }
        read_found!(connection)
    }

    /// Reads it from a PostgreSQL database, empty or not.
    pub(crate) async fn in_postgres(connection: &mut PgConnection) -> Result<Self> {
        const ANY: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
        if !sql::query_scalar::<_, bool>(ANY).fetch_one(&mut *connection).await? {
            return Ok(Self::default());
        }
        read_found!(connection)
    }

    /// Tells whether nothing is there.
    pub(super) fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }

    /// Tells whether the database knows what its processes know.
    pub(super) fn knows_processes(&self) -> bool {
        self.applied.contains(&PROCESSES_SINCE)
    }

    /// Says what is missing, and what is newer and may be.
    ///
    /// # Errors
    /// [`StorageError::Unusable`] when this program cannot run on it.
    pub(super) fn compare(&self, steps: &[Step], place: &str) -> Result<Pending> {
        let ours = newest(steps);
        let unknown = |number: &&i64| steps.iter().all(|step| step.number != **number);
        let newer: Vec<i64> = self.applied.iter().filter(unknown).copied().collect();
        if let Some(stranger) = newer.iter().find(|number| **number < ours) {
            return Err(StorageError::Unusable(format!(
                "the database {place} has migration {stranger}, which no version of colonnade has \
                 that came before this one: it was made by a development version; start that one, \
                 or restore a backup"
            )));
        }
        let needed = self.known_min.unwrap_or(i64::MAX);
        if let Some(newest_there) = newer.last()
            && ours < needed
        {
            return Err(StorageError::Unusable(format!(
                "the database {place} has migration {newest_there} of a newer version of colonnade, \
                 which took away what this one, which knows migrations up to {ours}, still uses: \
                 start the newer version (any that knows migration {needed}). The only way back is \
                 a backup from before that upgrade"
            )));
        }
        let missing = steps.iter().filter(|step| !self.applied.contains(&step.number));
        let missing = missing
            .map(|step| {
                let (number, name) = (step.number, step.name.to_string());
                Ok(Change { number, name, needs: declared(step)? })
            })
            .collect::<Result<_>>()?;
        Ok(Pending { missing, newer })
    }
}

/// Reads what a migration says that takes something away.
pub(super) fn declared(step: &Step) -> Result<Option<i64>> {
    let Some(said) = step.sql.lines().next().and_then(|line| line.strip_prefix(DECLARATION)) else {
        return Ok(None);
    };
    let number = said.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    number.parse().map(Some).map_err(|_| {
        StorageError::Unusable(format!("{} does not say which migration it needs", step.name))
    })
}

/// Refuses to take something away that a process uses which lives: one that knows less than `needs`.
///
/// # Errors
/// [`StorageError::Unusable`] with the names of those.
pub(super) async fn refuse_older(
    connection: &mut PgConnection,
    needs: i64,
    place: &str,
) -> Result<()> {
    const OLDER: &str = "SELECT inc_id, name FROM incarnations \
         WHERE state < $1 AND schema_known < $2 ORDER BY inc_id";
    const FREE: &str = "SELECT pg_try_advisory_xact_lock_shared($1)";
    let older: Vec<(i64, String)> = sql::query_as(OLDER)
        .bind(crate::database::incarnation::FENCED)
        .bind(needs)
        .fetch_all(&mut *connection)
        .await?;
    let mut living = Vec::new();
    for (incarnation, name) in older {
        // A process alone holds the database itself and not its own life.
        for lock in [Lock::Alive(incarnation), Lock::Database] {
            let free: bool =
                sql::query_scalar(FREE).bind(lock.key()).fetch_one(&mut *connection).await?;
            if !free {
                living.push(name);
                break;
            }
        }
    }
    if living.is_empty() {
        return Ok(());
    }
    Err(StorageError::Unusable(format!(
        "this version of colonnade takes away tables or columns of {place} that older processes use \
         which still run: {}. Stop those, or replace them by a version that knows migration {needs}, \
         and try again; nothing was changed",
        living.join(", ")
    )))
}
