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
mod table;
mod target;

use std::path::Path;

pub use self::table::{MENDED_SHOWN_MAX, Mended, Sum};
use self::{source::Source, table::Table, target::Target};
use crate::error::{Result, StorageError};

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
