//! Makes a request of what a client wrote: the filter, given as JSON or by its id.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{MatrixError, ruma::api::client::filter::FilterDefinition};
use colonnade_rooms::Result;
use colonnade_storage::{StorageError, users::filters};

use super::service::Sync;

impl Sync {
    /// Returns the filter a user uploaded under an id.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when there is none.
    pub async fn filter_by_id(
        &self,
        session: &Session,
        filter_id: &str,
    ) -> Result<Arc<FilterDefinition>> {
        let unknown = || MatrixError::invalid_param("filter: you have no filter with this id");
        let number: i64 = filter_id.parse().map_err(|_| unknown())?;
        let key = (session.user, number);
        if let Some(known) = self.filters.get(&key) {
            return Ok(known);
        }
        let text = filters::get(&self.context.db, session.user, number).await?;
        let text = text.ok_or_else(unknown)?;
        let filter: FilterDefinition = serde_json::from_str(&text)
            .map_err(|error| StorageError::corrupt("filters", "body", number, error))?;
        let filter = Arc::new(filter);
        self.filters.insert(key, Arc::clone(&filter));
        Ok(filter)
    }
}
