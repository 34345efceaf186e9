//! Sending: messages, state and redactions of a user in a room.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, EventId, RoomId, UserId, events::TimelineEventType,
    },
};
use colonnade_rules::event::content_from_json;
use colonnade_storage::rooms::client_txns::ClientTxn;
use serde_json::{json, value::RawValue};

use crate::{Error, Result};
use crate::{
    proposal::{Proposal, Sent, content, draft_error, state_event},
    refusals::no_member,
    service::Rooms,
    store::Room,
};

impl Rooms {
    /// Sends a message event.
    ///
    /// The same transaction id from the same device sends nothing and gives the same answer; without one
    /// every call is a new event.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_BAD_JSON`, `M_TOO_LARGE`, `M_DUPLICATE_ANNOTATION`.
    pub async fn send(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_type: &str,
        body: &RawValue,
        txn_id: Option<&str>,
    ) -> Result<Sent> {
        let room = self.known(room_id).await?;
        let content = content_from_json(body).map_err(draft_error)?;
        let event_type = TimelineEventType::from(event_type);
        let redacts = match (&event_type, content.get("redacts")) {
            (TimelineEventType::RoomRedaction, Some(CanonicalJsonValue::String(id))) => {
                EventId::parse(id.as_str()).ok()
            }
            _ => None,
        };
        let scope = format!("send {} {event_type}", room.nid);
        let sender = session.user_id.clone();
        let proposal = Proposal {
            sender,
            event_type,
            state_key: None,
            content,
            redacts,
            txn: txn_of(session, scope, txn_id),
            over: None,
            signed: None,
        };
        self.propose(&room, proposal).await
    }

    /// Sends a state event whose content is complete; member events are made by those who know what they
    /// show.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_BAD_JSON`, `M_TOO_LARGE`; `M_BAD_ALIAS` and `M_INVALID_PARAM` for a
    /// canonical alias.
    pub async fn send_state(
        &self,
        session: &Session,
        room: &Arc<Room>,
        event_type: &str,
        state_key: &str,
        content: CanonicalJsonObject,
    ) -> Result<Sent> {
        match event_type {
            "m.room.create" => return Err(MatrixError::bad_json("a room is created once").into()),
            "m.room.power_levels" => self.check_creators(room, &content).await?,
            _ => {}
        }
        let state_key = state_key.to_owned();
        self.propose(room, state_event(&session.user_id, event_type, state_key, content)).await
    }

    /// Redacts an event; transaction ids are as in [`Rooms::send`].
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_NOT_FOUND`.
    pub async fn redact(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &EventId,
        reason: Option<&str>,
        txn_id: Option<&str>,
    ) -> Result<Sent> {
        let room = self.joined_room(room_id, session.user).await?;
        let content = match reason {
            Some(reason) => content(json!({ "reason": reason }))?,
            None => CanonicalJsonObject::new(),
        };
        let scope = format!("redact {} {target}", room.nid);
        let proposal = Proposal {
            sender: session.user_id.clone(),
            event_type: TimelineEventType::RoomRedaction,
            state_key: None,
            content,
            redacts: Some(target.to_owned()),
            txn: txn_of(session, scope, txn_id),
            over: None,
            signed: None,
        };
        self.propose(&room, proposal).await
    }

    /// Proposes one event to the room's actor.
    pub async fn propose(&self, room: &Arc<Room>, proposal: Proposal) -> Result<Sent> {
        let sender = proposal.sender.clone();
        let is_own = proposal.state_key.as_deref() == Some(sender.as_str());
        let mut sent = match self.add_recommended(room, proposal).await {
            Err(Error::Client(error)) if !is_own && matches!(error.status, 403 | 404) => {
                return Err(self.as_shown_to(room, &sender, error).await?.into());
            }
            asked => asked?,
        };
        sent.pop().ok_or_else(|| Error::internal("send an event", NoAnswer))
    }

    /// Returns what a sender is told who was refused: why, or, to who never had to do with the room, the
    /// same as if there were none.
    async fn as_shown_to(
        &self,
        room: &Room,
        sender: &UserId,
        why: MatrixError,
    ) -> Result<MatrixError> {
        let known = match self.context.interned.find_user(sender).await? {
            Some(user) => self.membership(room.nid, user).await?,
            None => None,
        };
        Ok(if known.is_some() { why } else { no_member() })
    }

    /// Checks that creators who stand above all levels are given none. The authorization rules refuse
    /// it too, but as a lack of power.
    ///
    /// Source: Matrix v1.19, "Room version 12", "Authorization rules", `m.room.power_levels`.
    async fn check_creators(&self, room: &Room, content: &CanonicalJsonObject) -> Result<()> {
        let Some(CanonicalJsonValue::Object(users)) = content.get("users") else { return Ok(()) };
        if !room.rules.authorization.explicitly_privilege_room_creators {
            return Ok(());
        }
        let Some(levels) = self.power_levels(room).await? else { return Ok(()) };
        match levels.creators().iter().find(|creator| users.contains_key(creator.as_str())) {
            None => Ok(()),
            Some(creator) => {
                let why = format!("{creator} is a creator of the room and has no level in `users`");
                Err(MatrixError::bad_json(why).into())
            }
        }
    }
}

/// Names the transaction of a request that has an id of one.
fn txn_of(session: &Session, scope: String, txn_id: Option<&str>) -> Option<ClientTxn> {
    let txn_id = txn_id?.to_owned();
    Some(ClientTxn { device: session.device, scope, txn_id })
}

/// An actor gave no answer for a proposal; it gives one for each.
#[derive(Debug, thiserror::Error)]
#[error("no answer for a proposal")]
struct NoAnswer;
