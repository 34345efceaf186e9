//! Inviting users of another server: their server signs the invitation, too.
//!
//! Source: Matrix v1.19, server-server, "Inviting to a room".

use std::time::Duration;

use colonnade_model::ruma::{RoomVersionId, ServerName};
use colonnade_rooms::Room;
use colonnade_rules::event::Event;
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{Messaging, MessagingError, membership::raw, path};
use crate::transport::Request;

/// How long the other server may take.
const QUESTION: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Invited {
    event: Box<RawValue>,
}

impl Messaging {
    /// Shows an invitation to the server of the invited, with stripped state of the room, and returns it with
    /// the signature of that server.
    ///
    /// # Errors
    /// [`MessagingError`]; among them that the other server refuses.
    pub async fn invite(
        &self,
        server: &ServerName,
        room: &Room,
        invite: &Event,
        shown: &[Box<RawValue>],
    ) -> Result<Event, MessagingError> {
        let pdu = raw(invite)?;
        let body = json!({
            "room_version": room.version,
            "event": pdu,
            "invite_room_state": shown,
        });
        let last = Some(invite.event_id().as_str());
        let request = Request::put(path("v2/invite", &room.room_id, last), &body)?;
        let answer = self.transport.send(server, request.within(QUESTION).ignoring_backoff()).await;
        let signed = match answer {
            Ok(answer) => answer.json::<Invited>().await?.event,
            // Servers of before know the first form, for the rooms of their time.
            Err(error)
                if error.is_unrecognized()
                    && matches!(room.version, RoomVersionId::V1 | RoomVersionId::V2) =>
            {
                let request = Request::put(path("v1/invite", &room.room_id, last), &pdu)?;
                let answer = self.transport.send(server, request.within(QUESTION)).await?;
                let (_, invited): (u16, Invited) = answer.json().await?;
                invited.event
            }
            Err(error) => return Err(error.into()),
        };
        let signed = self.checked(room, signed).await?;
        match signed.event_id() == invite.event_id() {
            true => Ok(signed),
            false => Err(MessagingError::Unusable("another event than the invitation".to_owned())),
        }
    }
}
