//! Files that a crash left on disk between their last byte and their row: nobody has their id.

use colonnade_rooms::{Error, Result};
use colonnade_storage::media::{self as table, elsewhere};

use super::Media;

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
                let db = &self.context.db;
                if table::has_content(db, hash).await? || elsewhere::has_file(db, hash).await? {
                    continue;
                }
                let name = self.context.random.alphanumeric(super::body::MEDIA_ID_LENGTH);
                let gone = self.files.discard(&hash, &name).await;
                let gone = gone.map_err(|error| Error::internal("delete a file", error))?;
                swept += usize::from(gone);
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests;
