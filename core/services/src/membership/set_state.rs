//! Sending a state event by hand. One that says what a user is in the room is completed first: it may be
//! how somebody comes in or invites.

use colonnade_model::{ruma::RoomId, session::Session};
use colonnade_rooms::{Result, Sent, proposal::draft_error};
use colonnade_rules::event::content_from_json;
use serde_json::value::RawValue;

use super::service::MembershipService;

impl MembershipService {
    /// Sends a state event.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_BAD_JSON`, `M_TOO_LARGE`; `M_BAD_ALIAS` and `M_INVALID_PARAM` for a
    /// canonical alias.
    pub async fn set_state(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
        body: &RawValue,
    ) -> Result<Sent> {
        // A member event of one's own may be how one comes in.
        let is_own = event_type == "m.room.member" && state_key == session.user_id.as_str();
        let room = match is_own {
            true => self.rooms.known(room_id).await?,
            false => self.rooms.known_to(session, room_id).await?,
        };
        let mut content = content_from_json(body).map_err(draft_error)?;
        if event_type == "m.room.member" {
            self.complete_member(session, &room, state_key, &mut content).await?;
        }
        self.rooms.send_state(session, &room, event_type, state_key, content).await
    }
}
