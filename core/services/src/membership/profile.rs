//! What rooms show of a user of this server: the name and the picture of his profile, copied into
//! his membership of each room.
//!
//! A profile and a membership are not written in one transaction, so whoever copies looks at the
//! profile once more afterwards, and copies again if it changed: of two who copy at the same time the
//! last to write a room either wrote the newest, or sees that he did not.

use std::sync::Arc;

use colonnade_model::ruma::UserId;
use colonnade_rooms::{
    Result, Room,
    proposal::{content, member},
};
use colonnade_storage::{
    rooms::members::{self, Membership},
    users::profiles::{self, AVATAR_URL, DISPLAYNAME, Shown},
};
use serde_json::{Value, json};

use super::service::MembershipService;

impl MembershipService {
    /// Returns what people see of a user.
    pub(crate) async fn profile(&self, user_id: &UserId) -> Result<Shown> {
        match self.context.interned.find_user(user_id).await? {
            Some(user) => Ok(profiles::shown(&self.context.db, user).await?),
            None => Ok(Shown::default()),
        }
    }

    /// Tells every room a user is in of his profile.
    ///
    /// # Errors
    /// When the database fails. A room that does not let the user change is skipped.
    pub async fn profile_changed(&self, user_id: &UserId) -> Result<()> {
        let mut shown = self.profile(user_id).await?;
        // Ends: every further round is for a change that came meanwhile, which the user pays for.
        loop {
            self.tell_rooms(user_id, &shown).await?;
            let now = self.profile(user_id).await?;
            if now == shown {
                return Ok(());
            }
            shown = now;
        }
    }

    /// Makes sure that a room a user just came into, when this was seen of him, shows him as he is.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn came_in(&self, user_id: &UserId, shown: &Shown) -> Result<()> {
        if self.profile(user_id).await? == *shown {
            return Ok(());
        }
        self.profile_changed(user_id).await
    }

    async fn tell_rooms(&self, user_id: &UserId, shown: &Shown) -> Result<()> {
        let Some(user) = self.context.interned.find_user(user_id).await? else { return Ok(()) };
        let profile = content(showing(json!({ "membership": "join" }), shown))?;
        let joined = members::rooms_of(&self.context.db, user, &[Membership::Join]).await?;
        let nids: Vec<_> = joined.iter().map(|member| member.room).collect();
        let rooms = self.rooms.rooms(&nids).await?;
        let tell = |room: Arc<Room>| {
            let proposal = member(user_id, user_id, profile.clone());
            async move {
                if let Err(error) = self.rooms.propose(&room, proposal).await {
                    tracing::warn!(room = %room.room_id, %error, "cannot update a member");
                }
            }
        };
        futures_util::future::join_all(rooms.into_iter().map(tell)).await;
        Ok(())
    }
}

/// Adds what people see of a user to the content of a member event.
pub(crate) fn showing(mut member: Value, shown: &Shown) -> Value {
    for (key, value) in [(DISPLAYNAME, &shown.displayname), (AVATAR_URL, &shown.avatar_url)] {
        if let Some(value) = value {
            member[key] = value.as_str().into();
        }
    }
    member
}
