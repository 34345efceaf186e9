//! Invitations that users of other servers send to users of this one.
//!
//! Source: Matrix v1.19, server-server, "Inviting to a room".

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{RoomId, RoomVersionId, ServerName, UserId, events::room::member::MembershipState},
};
use colonnade_rooms::{Result, founding::rules_of, proposal::draft_error};
use colonnade_rules::event::{Event, complete};
use colonnade_storage::users::accounts;
use serde_json::{Value, value::RawValue};

use super::{FederationService, coming::require_same};

impl FederationService {
    /// Takes an invitation and returns it with this server's signature.
    ///
    /// # Errors
    /// `M_INCOMPATIBLE_ROOM_VERSION`, `M_FORBIDDEN`, `M_INVITE_BLOCKED`, `M_BAD_JSON`, `M_INVALID_PARAM`.
    pub async fn take_invite(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        event_id: &str,
        version: &RoomVersionId,
        pdu: Box<RawValue>,
        shown: &[Value],
    ) -> Result<Event> {
        let rules = rules_of(version).map_err(|_| {
            let why = format!("room version {version} is not known here");
            MatrixError::new(400, "M_INCOMPATIBLE_ROOM_VERSION", why)
                .with("room_version", version.to_string())
        })?;
        let invite = self.messaging.checked_by(&rules, pdu).await?;
        require_same(&invite, event_id)?;
        let user = invite.state_key().and_then(|user| UserId::parse(user).ok());
        let wrong = |why: &str| MatrixError::invalid_param(why);
        if invite.room_id() != room_id || invite.membership() != Some(MembershipState::Invite) {
            return Err(wrong("not an invitation to this room").into());
        }
        let Some(user) = user.filter(|user| self.rooms.is_local(user)) else {
            return Err(wrong("the invited user is not of this server").into());
        };
        if invite.sender().server_name() != origin {
            return Err(MatrixError::forbidden("the sender is not of your server").into());
        }
        let nid = self.context.interned.find_user(&user).await?;
        let account = match nid {
            Some(nid) => accounts::find(&self.context.db, nid).await?,
            None => None,
        };
        if account.is_some() {
            self.membership.require_invitable(invite.sender(), &user).await?;
        }
        let object = serde_json::from_str(invite.json())
            .map_err(|error| MatrixError::bad_json(error.to_string()))?;
        let key = self.context.signing_key.current();
        let signed =
            complete(object, &self.context.server_name, &*key, &rules, &*self.context.random)
                .map_err(draft_error)?;
        let room = self.rooms.elsewhere(room_id, version).await?;
        if room.version != *version {
            return Err(wrong("the room is of another version").into());
        }
        // Who is in the room hears of it like everybody else. Of a user who does not exist nobody else learns that.
        if self.rooms.is_resident(&room).await? {
            if !self.messaging.admits(&room, origin).await? {
                let why = format!("{origin} may not take part in this room");
                return Err(MatrixError::forbidden(why).into());
            }
        } else if account.is_some() {
            self.membership.take_outside(&Arc::clone(&room), signed.clone(), shown).await?;
        }
        Ok(signed)
    }
}
