//! Many rows of one table in one go: one statement on PostgreSQL, whose price is the round trip; row
//! by row on SQLite, whose price is the row.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::AssertSqlSafe;

use super::{Tx, tx::Connection};
use crate::database::sql;
use crate::error::Result;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Bytes>),
}

/// Text that is stored as bytes, and is not copied on the way.
impl From<Arc<str>> for Cell {
    fn from(value: Arc<str>) -> Self {
        Self::Bytes(Some(Bytes::from_owner(<Arc<[u8]>>::from(value))))
    }
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Cell {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<Vec<u8>>> for Cell {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value.map(Bytes::from))
    }
}

impl From<Vec<u8>> for Cell {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(Some(value.into()))
    }
}

/// Rows to be inserted by one statement, `INSERT INTO … VALUES ($1, …, $N) …`, whose parameters
/// stand in the order of the columns.
pub(crate) struct Bulk<const N: usize> {
    sql: &'static str,
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Bulk<N> {
    pub(crate) fn new(sql: &'static str) -> Self {
        Self { sql, rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// Inserts all rows; none are no statement.
    ///
    /// # Errors
    /// When one of them cannot be inserted.
    pub(crate) async fn insert(self, tx: &mut Tx) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        match &mut tx.connection {
            Connection::Sqlite(connection) => {
                for row in &self.rows {
                    let mut query = sql::query(self.sql);
                    for cell in row {
                        query = match cell {
                            Cell::Int(value) => query.bind(*value),
                            Cell::Text(value) => query.bind(value.as_deref()),
                            Cell::Bytes(value) => query.bind(value.as_deref()),
                        };
                    }
                    query.execute(&mut **connection).await?;
                }
            }
            Connection::Postgres(connection) => {
                let columns = columns(&self.rows);
                let sql = AssertSqlSafe(unnested(self.sql, &columns));
                let mut query = sql::query(sql);
                for column in columns {
                    query = match column {
                        Column::Int(values) => query.bind(values),
                        Column::Text(values) => query.bind(values),
                        Column::Bytes(values) => query.bind(values),
                    };
                }
                query.execute(&mut ***connection).await?;
            }
        }
        Ok(())
    }
}

/// A column of all rows.
enum Column<'a> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<&'a str>>),
    Bytes(Vec<Option<&'a [u8]>>),
}

/// Turns rows into columns; what a column holds its first row says.
fn columns<const N: usize>(rows: &[[Cell; N]]) -> Vec<Column<'_>> {
    let count = rows.len();
    let mut columns: Vec<Column<'_>> = Vec::with_capacity(N);
    for (at, row) in rows.iter().enumerate() {
        for (place, cell) in row.iter().enumerate() {
            if at == 0 {
                columns.push(match cell {
                    Cell::Int(_) => Column::Int(Vec::with_capacity(count)),
                    Cell::Text(_) => Column::Text(Vec::with_capacity(count)),
                    Cell::Bytes(_) => Column::Bytes(Vec::with_capacity(count)),
                });
            }
            match (&mut columns[place], cell) {
                (Column::Int(values), Cell::Int(value)) => values.push(*value),
                (Column::Text(values), Cell::Text(value)) => values.push(value.as_deref()),
                (Column::Bytes(values), Cell::Bytes(value)) => values.push(value.as_deref()),
                _ => debug_assert!(false, "a column holds values of one kind"),
            }
        }
    }
    columns
}

/// Makes a statement for one row into one for arrays of columns.
fn unnested(sql: &str, columns: &[Column<'_>]) -> String {
    let (head, rest) = sql.split_once("VALUES (").expect("it inserts values");
    let (_, tail) = rest.split_once(')').expect("the values end");
    let arrays = columns.iter().enumerate().map(|(place, column)| {
        let kind = match column {
            Column::Int(_) => "BIGINT",
            Column::Text(_) => "TEXT",
            Column::Bytes(_) => "BYTEA",
        };
        format!("CAST(${} AS {kind}[])", place + 1)
    });
    let arrays = arrays.collect::<Vec<_>>().join(", ");
    // WHERE keeps a following ON CONFLICT from being read as part of a join.
    format!("{head}SELECT * FROM UNNEST({arrays}) WHERE true{tail}")
}
