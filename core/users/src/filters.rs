//! Filters that clients upload once and name from then on. Checked when they are stored; what a
//! filter means is decided where it is used.

use std::sync::Arc;

use colonnade_model::{MatrixError, nid::UserNid, ruma::api::client::filter::FilterDefinition};
use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::users::filters;

/// The largest filter, in bytes.
const FILTER_BYTES_MAX: usize = 64 * 1024;

/// Filters of local users.
pub struct Filters {
    context: Arc<Context>,
}

impl Filters {
    /// Works on the database of `context`.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Stores a filter, the JSON of a [`FilterDefinition`], and returns its name.
    ///
    /// # Errors
    /// `M_TOO_LARGE`; `M_FORBIDDEN` when the user has too many.
    pub async fn create(&self, user: UserNid, body: &[u8]) -> Result<String> {
        if body.len() > FILTER_BYTES_MAX {
            let why = format!("a filter may have {FILTER_BYTES_MAX} bytes");
            return Err(MatrixError::too_large(why).into());
        }
        let malformed = |error: serde_json::Error| MatrixError::bad_json(error.to_string());
        let value: serde_json::Value = serde_json::from_slice(body).map_err(malformed)?;
        let text = value.to_string();
        let digest = *blake3::hash(text.as_bytes()).as_bytes();
        let quota = self.context.settings.limits.filters();
        let write =
            self.context.db.write(move |tx| Box::pin(filters::put(tx, user, digest, text, quota)));
        Ok(write.await?.to_string())
    }

    /// Returns a filter as it was stored.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such filter.
    pub async fn get(&self, user: UserNid, filter_id: &str) -> Result<String> {
        let unknown = || MatrixError::not_found("there is no such filter");
        let filter_id: i64 = filter_id.parse().map_err(|_| unknown())?;
        let found = filters::get(&self.context.db, user, filter_id).await?;
        Ok(found.ok_or_else(unknown)?)
    }

    /// Returns a filter, ready for use.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such filter.
    pub async fn definition(&self, user: UserNid, filter_id: &str) -> Result<FilterDefinition> {
        let text = self.get(user, filter_id).await?;
        serde_json::from_str(&text).map_err(|error| Error::internal("read a filter", error))
    }
}
