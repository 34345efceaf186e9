//! Sending a state event by hand. One that says what a user is in the room is completed first: it may be
//! how somebody comes in or invites.

use colonnade_model::{ruma::RoomId, session::Session};
use colonnade_rooms::{Result, Sent, proposal::draft_error};
use colonnade_rules::event::content_from_json;
use serde_json::value::RawValue;

use super::service::MembershipService;

/// Says whether a state event is about what its sender is in the room.
pub(crate) fn is_own_member_event(session: &Session, event_type: &str, state_key: &str) -> bool {
    event_type == "m.room.member" && state_key == session.user_id.as_str()
}

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
        // It may be how one comes in.
        let room = match is_own_member_event(session, event_type, state_key) {
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

#[cfg(test)]
mod tests {
    use colonnade_model::nid::{DeviceNid, UserNid};
    use colonnade_model::ruma::user_id;

    use super::*;

    #[test]
    fn a_member_event_is_ones_own_by_type_and_state_key() {
        let user_id = user_id!("@a:b").to_owned();
        let (user, device) = (UserNid(1), DeviceNid(1));
        let session = Session {
            user_id,
            user,
            device_id: "D".into(),
            device,
            is_guest: false,
            restriction: colonnade_model::session::Restriction::None,
            address: None,
        };
        assert!(is_own_member_event(&session, "m.room.member", "@a:b"));
        assert!(!is_own_member_event(&session, "m.room.member", "@c:b"));
        assert!(!is_own_member_event(&session, "m.room.member", ""));
        assert!(!is_own_member_event(&session, "m.room.topic", "@a:b"));
    }
}
