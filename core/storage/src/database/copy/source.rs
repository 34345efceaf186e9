//! The SQLite file a copy reads: its tables, their rows in the order of their keys.

use std::{path::Path, sync::Arc};

use sqlx::{AssertSqlSafe, Row as _, sqlite::SqliteRow};

use super::{
    mend,
    table::{Column, Kind, LEFT_OUT, MENDED_SHOWN_MAX, Mended, PAGE_ROWS, Sum, Table},
};
use crate::database::Cell as Value;
use crate::database::commit_listener::NoListener;
use crate::{
    database::{
        sql,
        sqlite::{self, Sqlite},
    },
    error::{Result, StorageError},
};

/// The file, locked.
pub(super) struct Source {
    sqlite: Sqlite,
}

impl Source {
    pub(super) async fn open(path: &Path) -> Result<Self> {
        if !path.is_file() {
            let why = format!("there is no SQLite database {}", path.display());
            return Err(StorageError::Unusable(why));
        }
        if !sqlite::pending(path).await?.newer.is_empty() {
            return Err(StorageError::Unusable(format!(
                "{} was used by a newer version of colonnade: copy it with that one",
                path.display()
            )));
        }
        Ok(Self { sqlite: sqlite::open(path, Arc::new(NoListener)).await? })
    }

    /// Returns what tells this deployment from any other: the secret behind its digests, as text.
    pub(super) async fn identity(&self) -> Result<String> {
        const KEY: &str = "SELECT hex(value) FROM settings WHERE key = 'digest_key'";
        let key: Option<String> =
            sql::query_scalar(KEY).fetch_optional(self.sqlite.reader()).await?;
        key.ok_or_else(|| {
            StorageError::Unusable(
                "no server ever ran on this SQLite database: there is nothing to copy".to_owned(),
            )
        })
    }

    /// Returns the tables by name.
    pub(super) async fn tables(&self) -> Result<Vec<Table>> {
        const NAMES: &str = "SELECT name FROM sqlite_master WHERE type = 'table' \
             AND name NOT LIKE 'sqlite!_%' ESCAPE '!' ORDER BY name";
        const COLUMNS: &str = "SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid";
        let names: Vec<String> = sql::query_scalar(NAMES).fetch_all(self.sqlite.reader()).await?;
        let mut tables = Vec::new();
        for name in names.into_iter().filter(|name| !LEFT_OUT.contains(&name.as_str())) {
            let rows: Vec<(String, String, i64)> =
                sql::query_as(COLUMNS).bind(name.clone()).fetch_all(self.sqlite.reader()).await?;
            let mut key: Vec<(i64, usize)> = Vec::new();
            let mut columns = Vec::new();
            for (place, (column, declared, in_key)) in rows.into_iter().enumerate() {
                let kind = match declared.as_str() {
                    "INTEGER" => Kind::Int,
                    "TEXT" => Kind::Text,
                    "BLOB" => Kind::Bytes,
                    other => {
                        let why = format!("column {name}.{column} is a {other}");
                        return Err(StorageError::Failed(why));
                    }
                };
                columns.push(Column { name: column, kind });
                if in_key > 0 {
                    key.push((in_key, place));
                }
            }
            key.sort_unstable();
            let key: Vec<usize> = key.into_iter().map(|(_, place)| place).collect();
            if key.is_empty() {
                return Err(StorageError::Failed(format!("table {name} has no primary key")));
            }
            tables.push(Table { name, columns, key });
        }
        Ok(tables)
    }

    pub(super) async fn count(&self, table: &Table) -> Result<u64> {
        let sql = AssertSqlSafe(format!("SELECT count(*) FROM \"{}\"", table.name));
        let count: i64 = sql::query_scalar(sql).fetch_one(self.sqlite.reader()).await?;
        Ok(count.unsigned_abs())
    }

    /// Returns the next rows after a key.
    pub(super) async fn page(
        &self,
        table: &Table,
        after: Option<&[Value]>,
    ) -> Result<Vec<Vec<Value>>> {
        let names = table.key.iter().map(|place| format!("\"{}\"", table.columns[*place].name));
        let key = names.collect::<Vec<_>>().join(", ");
        let places = (1..=table.key.len()).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ");
        let after_key = after.map_or(String::new(), |_| format!("WHERE ({key}) > ({places})"));
        let sql = format!(
            "SELECT {} FROM \"{}\" {after_key} ORDER BY {key} LIMIT {PAGE_ROWS}",
            table.column_list(),
            table.name
        );
        // The key of a row may be a text that is mended on the way.
        #[expect(clippy::disallowed_methods, reason = "binds what the file itself holds")]
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for value in after.into_iter().flatten() {
            query = match value.clone() {
                Value::Int(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Bytes(bytes) => query.bind(bytes.map(Vec::from)),
            };
        }
        let rows = query.fetch_all(self.sqlite.reader()).await?;
        rows.iter().map(|row| values(table, row)).collect()
    }

    /// Adds up all rows as they arrive at the other side, and tells what of them is mended: the first
    /// texts, and how many.
    pub(super) async fn sum(&self, table: &Table) -> Result<(Sum, (Vec<Mended>, u64))> {
        let (mut sum, mut mended, mut mended_count) = (Sum::default(), Vec::new(), 0);
        let mut after: Option<Vec<Value>> = None;
        loop {
            let mut page = self.page(table, after.as_deref()).await?;
            match page.last() {
                Some(last) => after = Some(table.key_of(last)),
                None => return Ok((sum, (mended, mended_count))),
            }
            for row in &mut page {
                mend::row(table, row, |text| {
                    mended_count += 1;
                    if mended.len() < MENDED_SHOWN_MAX {
                        mended.push(text);
                    }
                });
                sum.add(row);
            }
        }
    }

    pub(super) async fn close(&self) {
        self.sqlite.close().await;
    }
}

fn values(table: &Table, row: &SqliteRow) -> Result<Vec<Value>> {
    let read = table.columns.iter().enumerate().map(|(place, column)| {
        Ok(match column.kind {
            Kind::Int => Value::Int(row.try_get(place)?),
            Kind::Text => Value::Text(row.try_get(place)?),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(place)?.into(),
        })
    });
    read.collect()
}
