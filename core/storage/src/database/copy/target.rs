//! The PostgreSQL database a copy writes, and its notes of how far the copy has come.

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::table::{Kind, Sum, Table, key_text};
use crate::database::Cell as Value;
use crate::{
    database::{
        Lock,
        postgres::{self, message},
        sql,
    },
    error::{Result, StorageError},
};

/// The table of the notes; while it is there the copy is unfinished.
const NOTES: &str = "CREATE TABLE copying (name TEXT PRIMARY KEY, source TEXT NOT NULL, \
     last_key TEXT, rows BIGINT NOT NULL, done BOOLEAN NOT NULL)";
/// Tables that a new database has rows in; those of the source take their place.
const SEEDED: [&str; 1] = ["stream_positions"];

/// The database, locked.
pub(super) struct Target {
    connection: PgConnection,
}

impl Target {
    /// Connects, makes the tables, and the notes unless they are there from an earlier attempt.
    pub(super) async fn open(url: &str, tables: &[Table], source: &str) -> Result<Self> {
        let unusable = |why: &str| Err(StorageError::Unusable(why.to_owned()));
        let mut connection = postgres::connect_to_copy(url).await?;
        const HOLD: &str = "SELECT pg_try_advisory_lock($1)";
        let held: bool =
            sql::query_scalar(HOLD).bind(Lock::Database.key()).fetch_one(&mut connection).await?;
        if !held {
            return unusable("a server or another copy uses the target database: stop it");
        }
        let mut target = Self { connection };
        const BEGUN: &str = "SELECT to_regclass('copying') IS NOT NULL";
        let begun: bool = sql::query_scalar(BEGUN).fetch_one(&mut target.connection).await?;
        if !begun {
            target.begin(tables, source).await?;
            return Ok(target);
        }
        const SOURCE: &str = "SELECT DISTINCT source FROM copying";
        let sources: Vec<String> =
            sql::query_scalar(SOURCE).fetch_all(&mut target.connection).await?;
        if sources != [source] {
            return unusable(
                "the target database holds part of a copy of another server: drop it and create \
                 it again",
            );
        }
        Ok(target)
    }

    async fn begin(&mut self, tables: &[Table], source: &str) -> Result<()> {
        let mut tx = self.connection.begin().await?;
        sql::query(NOTES).execute(&mut *tx).await?;
        for table in tables {
            let name = &table.name;
            if SEEDED.contains(&name.as_str()) {
                let clear = AssertSqlSafe(format!("DELETE FROM {name}"));
                sql::query(clear).execute(&mut *tx).await?;
            }
            let any = AssertSqlSafe(format!("SELECT EXISTS (SELECT 1 FROM {name})"));
            if sql::query_scalar(any).fetch_one(&mut *tx).await? {
                return Err(StorageError::Unusable(format!(
                    "the target database is in use, table {name} has rows: name an empty one"
                )));
            }
            const NOTE: &str = "INSERT INTO copying (name, source, rows, done) \
                 VALUES ($1, $2, 0, FALSE)";
            sql::query(NOTE).bind(name).bind(source).execute(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Returns after which key a table goes on, and how many rows it has; `None` when it is done.
    pub(super) async fn stands(
        &mut self,
        table: &Table,
    ) -> Result<Option<(Option<Vec<Value>>, u64)>> {
        const STANDS: &str = "SELECT last_key, rows, done FROM copying WHERE name = $1";
        let (key, rows, done): (Option<String>, i64, bool) =
            sql::query_as(STANDS).bind(&table.name).fetch_one(&mut self.connection).await?;
        if done {
            return Ok(None);
        }
        let key = key.map(|key| key_from(table, &key)).transpose()?;
        Ok(Some((key, rows.unsigned_abs())))
    }

    /// Writes a page, and that its table has come so far.
    pub(super) async fn put(
        &mut self,
        table: &Table,
        rows: Vec<Vec<Value>>,
        last: &[Value],
        count: u64,
    ) -> Result<()> {
        const NOTE: &str = "UPDATE copying SET last_key = $2, rows = $3 WHERE name = $1";
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let mut tx = self.connection.begin().await?;
        let sql = insert_sql(table);
        let mut query = sql::query(AssertSqlSafe(sql));
        for (place, column) in table.columns.iter().enumerate() {
            let values = rows.iter().map(|row| row[place].clone());
            query = match column.kind {
                Kind::Int => query.bind(values.map(int).collect::<Vec<_>>()),
                Kind::Text => query.bind(values.map(text).collect::<Vec<_>>()),
                Kind::Bytes => query.bind(values.map(bytes).collect::<Vec<_>>()),
            };
        }
        query.execute(&mut *tx).await.map_err(|error| {
            let name = &table.name;
            StorageError::Unusable(format!("PostgreSQL refuses a row of table {name}: {error}"))
        })?;
        let note = sql::query(NOTE).bind(&table.name).bind(key_text(last)).bind(count);
        note.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn done(&mut self, table: &Table) -> Result<()> {
        const DONE: &str = "UPDATE copying SET done = TRUE WHERE name = $1";
        sql::query(DONE).bind(&table.name).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Adds up all rows.
    pub(super) async fn sum(&mut self, table: &Table) -> Result<Sum> {
        let sql = format!("SELECT {} FROM \"{}\"", table.column_list(), table.name);
        #[expect(clippy::disallowed_methods, reason = "binds nothing, and reads row by row")]
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut self.connection);
        let mut sum = Sum::default();
        while let Some(row) = rows.try_next().await? {
            let mut values = Vec::with_capacity(table.columns.len());
            for (place, column) in table.columns.iter().enumerate() {
                values.push(match column.kind {
                    Kind::Int => Value::Int(row.try_get(place)?),
                    Kind::Text => Value::Text(row.try_get(place)?),
                    Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.into(),
                });
            }
            sum.add(&values);
        }
        Ok(sum)
    }

    /// Sets the counters behind generated ids, and removes the notes: from now on a server starts.
    pub(super) async fn finish(mut self) -> Result<()> {
        const GENERATED: &str = "SELECT CAST(table_name AS TEXT), CAST(column_name AS TEXT) \
             FROM information_schema.columns \
             WHERE table_schema = current_schema() AND is_identity = 'YES'";
        let generated: Vec<(String, String)> =
            sql::query_as(GENERATED).fetch_all(&mut self.connection).await?;
        let mut sql = String::from("BEGIN; DROP TABLE copying; ");
        for (table, column) in generated {
            sql.push_str(&format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), \
                 (SELECT COALESCE(max({column}), 0) + 1 FROM {table}), false); "
            ));
        }
        sql.push_str("COMMIT");
        message(&mut self.connection, sql).await?;
        const ANALYZE: &str = "ANALYZE";
        sql::query(ANALYZE).execute(&mut self.connection).await?;
        self.connection.close().await?;
        Ok(())
    }
}

/// The statement that writes a page, one array per column.
fn insert_sql(table: &Table) -> String {
    let arrays = table.columns.iter().enumerate().map(|(place, column)| {
        let kind = match column.kind {
            Kind::Int => "BIGINT",
            Kind::Text => "TEXT",
            Kind::Bytes => "BYTEA",
        };
        format!("${}::{kind}[]", place + 1)
    });
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    let (name, columns) = (&table.name, table.column_list());
    format!("INSERT INTO \"{name}\" ({columns}) SELECT * FROM UNNEST({arrays})")
}

fn int(value: Value) -> Option<i64> {
    if let Value::Int(value) = value { value } else { None }
}

fn text(value: Value) -> Option<String> {
    if let Value::Text(value) = value { value } else { None }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::Bytes(value) = value { value.map(Vec::from) } else { None }
}

/// Reads what [`key_text`] wrote.
fn key_from(table: &Table, text: &str) -> Result<Vec<Value>> {
    let wrong = |why: String| StorageError::corrupt("copying", "last_key", &table.name, why);
    let values: Vec<serde_json::Value> =
        serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    let kinds = table.key.iter().map(|place| table.columns[*place].kind);
    let read = values.into_iter().zip(kinds).map(|(value, kind)| {
        let read = match kind {
            Kind::Int => serde_json::from_value(value).map(Value::Int),
            Kind::Text => serde_json::from_value(value).map(Value::Text),
            Kind::Bytes => serde_json::from_value::<Option<Vec<u8>>>(value).map(Value::from),
        };
        read.map_err(|error| wrong(error.to_string()))
    });
    read.collect()
}
