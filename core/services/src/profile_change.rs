//! Changing a profile: the profile itself, and every room the user is in, which shows the name and
//! the picture as part of the membership. It belongs to no single service.

use serde_json::Value;

use crate::{Result, Services, accounts::Session};

impl Services {
    /// Stores a field of the session's user, or deletes it with `None`, and tells the rooms.
    ///
    /// # Errors
    /// `M_KEY_TOO_LARGE`, `M_PROFILE_TOO_LARGE`, `M_INVALID_PARAM`, `M_BAD_JSON`.
    pub async fn set_profile_field(
        &self,
        session: &Session,
        name: &str,
        value: Option<Value>,
    ) -> Result<()> {
        let Some(shown) = self.profiles.set(session, name, value).await? else { return Ok(()) };
        let (displayname, avatar_url) = (shown.displayname, shown.avatar_url);
        let (displayname, avatar_url) = (displayname.as_deref(), avatar_url.as_deref());
        self.rooms.profile_changed(&session.user_id, displayname, avatar_url).await
    }
}
