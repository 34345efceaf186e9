//! How much one owner may keep in a table, by number and by bytes. It is checked inside the transaction
//! that writes: those of a lane take turns in all processes, so requests that come together cannot pass
//! it. What is refused is undone as a whole.

pub use crate::error::{Bound, Full};
use crate::error::{Result, StorageError};

/// What one owner may keep of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// What is kept, in the plural, for people.
    pub what: &'static str,
    /// How many.
    pub items: Bound,
    /// How many bytes.
    pub bytes: Bound,
}

impl Quota {
    /// Whatever somebody likes.
    pub const NONE: Self = Self { what: "things", items: Bound::NONE, bytes: Bound::NONE };

    /// Refuses what would be more than this.
    ///
    /// # Errors
    /// [`StorageError::Full`].
    pub fn require(&self, items: i64, bytes: i64) -> Result<()> {
        let full = |bound, in_bytes| StorageError::Full(Full { what: self.what, bound, in_bytes });
        if items > self.items.max {
            return Err(full(self.items, false));
        }
        if bytes > self.bytes.max {
            return Err(full(self.bytes, true));
        }
        Ok(())
    }
}
