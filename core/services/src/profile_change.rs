//! Changing a profile: the profile itself, and every room the user is in, which shows the name and
//! the picture as part of the membership. It belongs to no single service.

use colonnade_model::session::Session;
use colonnade_rooms::Result;
use serde_json::Value;

use crate::Services;

impl Services {
    /// Stores fields of the session's user, or deletes those with `None`, and tells the rooms.
    ///
    /// # Errors
    /// `M_KEY_TOO_LARGE`, `M_PROFILE_TOO_LARGE`, `M_INVALID_PARAM`, `M_BAD_JSON`.
    pub async fn set_profile_fields(
        &self,
        session: &Session,
        fields: Vec<(String, Option<Value>)>,
    ) -> Result<()> {
        if !self.profiles.set(session, fields).await? {
            return Ok(());
        }
        self.membership.profile_changed(&session.user_id).await
    }
}
