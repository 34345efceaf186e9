//! Users of other servers who leave a room over this one, or turn an invitation down.
//!
//! Source: Matrix v1.19, server-server, "Leaving Rooms (Rejecting Invites)".

use colonnade_model::ruma::{
    CanonicalJsonObject, RoomId, RoomVersionId, ServerName, UserId,
    events::room::member::MembershipState,
};
use colonnade_rooms::{
    Result,
    proposal::{content, member},
};
use serde_json::{json, value::RawValue};

use super::{FederationService, coming::require_same, require_own};

impl FederationService {
    /// Fills in the event by which a user of another server leaves.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn make_leave(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user: &UserId,
    ) -> Result<(RoomVersionId, CanonicalJsonObject)> {
        require_own(user, origin)?;
        let room = self.open_room(room_id, origin).await?;
        let leave = member(user, user, content(json!({ "membership": "leave" }))?);
        Ok((room.version.clone(), self.rooms.template(&room, leave).await?))
    }

    /// Takes the event by which a user of another server leaves.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`, `M_BAD_JSON`, `M_INVALID_PARAM`.
    pub async fn take_leave(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &str,
        pdu: Box<RawValue>,
    ) -> Result<()> {
        let room = self.open_room(room_id, origin).await?;
        let (leave, _) = self.own_member(origin, &room, pdu, &MembershipState::Leave).await?;
        require_same(&leave, event_id)?;
        self.take(&room, leave).await?;
        Ok(())
    }
}
