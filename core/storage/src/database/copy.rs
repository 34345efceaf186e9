//! Moves a deployment from SQLite to PostgreSQL: every row of every table, page by page.
//!
//! Invariants:
//! 1. A page and the note of how far its table has come are one transaction, so a copy that was
//!    interrupted goes on where it stopped.
//! 2. Until all tables were compared (number of rows, and a digest of them), the target is marked as
//!    unfinished, and no server starts on it.
//! 3. The source is locked and not changed, beyond being brought up to date.
//! 4. A text with U+0000, which older versions stored on SQLite and PostgreSQL has no place for, arrives
//!    mended: the same text becomes the same text in every table, and no two become one.

mod mend;
mod source;
mod target;

use std::path::Path;

use self::{source::Source, target::Target};
use super::Cell as Value;
use crate::error::{Result, StorageError};

/// Rows read and written at a time: enough that a round trip does not count, few enough that a page
/// of the largest events fits into memory.
const PAGE_ROWS: usize = 1_000;
/// Texts of a table that were mended and are named: whoever looks wants examples.
pub const MENDED_SHOWN_MAX: usize = 20;
/// Tables that are about the processes of a deployment and not about its data.
const LEFT_OUT: [&str; 5] =
    ["_sqlx_migrations", "cluster", "incarnations", "pool_slots", "writers"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Int,
    Text,
    Bytes,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    kind: Kind,
}

/// A table, as the source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    name: String,
    columns: Vec<Column>,
    /// Places of the columns of the primary key, in its order.
    key: Vec<usize>,
}

impl Table {
    /// Lists the columns, quoted.
    fn column_list(&self) -> String {
        let names = self.columns.iter().map(|column| format!("\"{}\"", column.name));
        names.collect::<Vec<_>>().join(", ")
    }

    /// Takes the key out of a row.
    fn key_of(&self, row: &[Value]) -> Vec<Value> {
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
    fn add(&mut self, row: &[Value]) {
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

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'p> {
    /// The table at work.
    pub table: &'p str,
    /// Whether it is being compared, after being copied.
    pub comparing: bool,
    /// Its rows copied so far.
    pub rows: u64,
    /// All its rows.
    pub rows_total: u64,
}

/// A table that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The table.
    pub table: String,
    /// What it comes to on both sides.
    pub sum: Sum,
    /// The first texts that were mended, at most [`MENDED_SHOWN_MAX`].
    pub mended: Vec<Mended>,
    /// How many texts were.
    pub mended_count: u64,
}

/// Copies the SQLite file `from` into the PostgreSQL database `to`, or goes on with that.
///
/// # Errors
/// [`StorageError::Unusable`] with the mend when either side cannot be used, the target holds other
/// data, or the two differ afterwards.
pub async fn copy(
    from: &Path,
    to: &str,
    mut progress: impl FnMut(Progress<'_>) + Send,
) -> Result<Vec<Copied>> {
    let source = Source::open(from).await?;
    let tables = source.tables().await?;
    let mut target = Target::open(to, &tables, &source.identity().await?).await?;
    for table in &tables {
        copy_table(&source, &mut target, table, &mut progress).await?;
    }
    let mut copied = Vec::new();
    for table in &tables {
        let (sum, (mended, mended_count)) = source.sum(table).await?;
        let step =
            Progress { table: &table.name, comparing: true, rows: sum.rows, rows_total: sum.rows };
        progress(step);
        let there = target.sum(table).await?;
        if sum != there {
            return Err(differs(table, sum, there));
        }
        copied.push(Copied { table: table.name.clone(), sum, mended, mended_count });
    }
    target.finish().await?;
    source.close().await;
    Ok(copied)
}

async fn copy_table(
    source: &Source,
    target: &mut Target,
    table: &Table,
    progress: &mut (impl FnMut(Progress<'_>) + Send),
) -> Result<()> {
    let rows_total = source.count(table).await?;
    let Some((mut after, mut rows)) = target.stands(table).await? else { return Ok(()) };
    loop {
        progress(Progress { table: &table.name, comparing: false, rows, rows_total });
        let mut page = source.page(table, after.as_deref()).await?;
        let Some(last) = page.last() else { break };
        let key = table.key_of(last);
        rows += page.len() as u64;
        page.iter_mut().for_each(|row| mend::row(table, row, |_| ()));
        target.put(table, page, &key, rows).await?;
        after = Some(key);
    }
    target.done(table).await
}

fn differs(table: &Table, here: Sum, there: Sum) -> StorageError {
    StorageError::Unusable(format!(
        "table {} differs after copying: {} rows with digest {:032x} in SQLite, {} rows with digest \
         {:032x} in PostgreSQL; was a server running on the file since the copy began? Drop the \
         database, create it again and copy anew",
        table.name, here.rows, here.digest, there.rows, there.digest
    ))
}

#[cfg(test)]
mod tests;
