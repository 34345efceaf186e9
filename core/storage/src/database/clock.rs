//! The clock of the database's server: the one that all processes over one database share.

use super::Database;
use crate::error::Result;

impl Database {
    /// Returns the time by the clock of the server, in milliseconds since 1970; `None` on SQLite,
    /// which has no other than this machine's.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn server_now_ms(&self) -> Result<Option<i64>> {
        const NOW: &str = "SELECT {NOW_MS}";
        if !self.can_be_shared() {
            return Ok(None);
        }
        read_list!(self, NOW, |sql, c| sqlx::query_scalar(sql).fetch_one(c)).map(Some)
    }
}
