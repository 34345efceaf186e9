//! Content that belongs to no upload: its row was refused, or a crash came between its last byte and its
//! row. Somebody may be uploading the same meanwhile, in another process, too. So whoever deletes moves
//! the file away first and asks then whether an upload has it; whoever uploads looks, after the row is
//! written, whether the file is still in its place (`storing.rs`). One of the two sees the other.

use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::media::{self as table, ContentHash, elsewhere};

use super::{Media, body::MEDIA_ID_LENGTH, files::Files};

impl Media {
    /// Deletes content that has been on disk for a day and belongs to no upload, and returns how much
    /// that was. Ends early once this is no longer ours to do.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub(crate) async fn sweep(&self, is_ours: impl Fn() -> bool) -> Result<usize> {
        let mut swept = 0;
        for first in 0..=u8::MAX {
            if !is_ours() {
                break;
            }
            let old = self.files.old_in(first, self.context.now_ms()).await;
            let old = old.map_err(|error| Error::internal("look through the media", error))?;
            for hash in old {
                swept += usize::from(discard(&self.context, &self.files, hash).await?);
            }
        }
        Ok(swept)
    }
}

/// Deletes content unless an upload has it. True when it is gone by this.
pub(super) async fn discard(context: &Context, files: &Files, hash: ContentHash) -> Result<bool> {
    let failed = |error| Error::internal("delete a file", error);
    if is_wanted(context, hash).await? {
        return Ok(false);
    }
    let name = context.random.alphanumeric(MEDIA_ID_LENGTH);
    let Some(taken) = files.take(&hash, &name).await.map_err(failed)? else { return Ok(false) };
    // Dropped, it goes back.
    if is_wanted(context, hash).await? {
        return Ok(false);
    }
    files.discard(taken).await.map_err(failed)?;
    Ok(true)
}

async fn is_wanted(context: &Context, hash: ContentHash) -> Result<bool> {
    let db = &context.db;
    Ok(table::has_content(db, hash).await? || elsewhere::has_file(db, hash).await?)
}

#[cfg(test)]
mod tests;
