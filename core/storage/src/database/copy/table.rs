//! Tables and rows on their way from one engine to the other.

use crate::database::Cell as Value;

/// Rows read and written at a time: enough that a round trip does not count, few enough that a page
/// of the largest events fits into memory.
pub(super) const PAGE_ROWS: usize = 1_000;

/// Texts of a table that were mended and are named: whoever looks wants examples.
pub const MENDED_SHOWN_MAX: usize = 20;

/// Tables that are about the processes of a deployment and not about its data.
pub(super) const LEFT_OUT: [&str; 5] =
    ["_sqlx_migrations", "cluster", "incarnations", "pool_slots", "writers"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    Bytes,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A table, as the source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Places of the columns of the primary key, in its order.
    pub(super) key: Vec<usize>,
}

impl Table {
    /// Lists the columns, quoted.
    pub(super) fn column_list(&self) -> String {
        let names = self.columns.iter().map(|column| format!("\"{}\"", column.name));
        names.collect::<Vec<_>>().join(", ")
    }

    /// Takes the key out of a row.
    pub(super) fn key_of(&self, row: &[Value]) -> Vec<Value> {
        self.key.iter().map(|place| row[*place].clone()).collect()
    }
}

/// A text that PostgreSQL has no place for, and so was mended on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mended {
    /// The column.
    pub column: String,
    /// The key of the row, as JSON.
    pub key: String,
    /// What it is now.
    pub text: String,
}

/// How many rows a table has, and what they come to, in whatever order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// The number of rows.
    pub rows: u64,
    /// The sum of the rows' digests.
    pub digest: u128,
}

impl Sum {
    pub(super) fn add(&mut self, row: &[Value]) {
        let mut hasher = blake3::Hasher::new();
        for value in row {
            let (tag, bytes): (u8, &[u8]) = match value {
                Value::Int(None) | Value::Text(None) | Value::Bytes(None) => (0, &[]),
                Value::Int(Some(number)) => (1, &number.to_le_bytes()),
                Value::Text(Some(text)) => (2, text.as_bytes()),
                Value::Bytes(Some(bytes)) => (3, bytes),
            };
            hasher.update(&[tag]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
        let mut half = [0; 16];
        half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        self.digest = self.digest.wrapping_add(u128::from_le_bytes(half));
        self.rows += 1;
    }
}

/// Writes a key down.
pub(super) fn key_text(key: &[Value]) -> String {
    let values = key.iter().map(|value| match value {
        Value::Int(number) => serde_json::json!(number),
        Value::Text(text) => serde_json::json!(text),
        Value::Bytes(bytes) => serde_json::json!(bytes.as_deref()),
    });
    serde_json::Value::Array(values.collect()).to_string()
}
