//! An event somebody on this server wants to send, before it is one.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    nid::EventNid,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, OwnedUserId, UserId,
        events::TimelineEventType,
    },
};
use colonnade_rules::event::DraftError;
use colonnade_storage::rooms::client_txns::ClientTxn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::store::RoomEvent;

/// An event somebody on this server wants to send.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Who.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: TimelineEventType,
    /// Its state key, for a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: CanonicalJsonObject,
    /// What it redacts.
    pub redacts: Option<OwnedEventId>,
    /// The client's name for the request.
    pub txn: Option<ClientTxn>,
    /// What it was made from, for a state event that changes the one before it; `None`: whatever.
    pub over: Option<Over>,
}

/// An event that was sent, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its local id.
    pub nid: EventNid,
}

/// Turns what is wrong with a draft into what the client is told.
pub fn draft_error(error: DraftError) -> MatrixError {
    match error {
        DraftError::TooLarge { .. } | DraftError::FieldTooLong { .. } => {
            MatrixError::too_large(error.to_string())
        }
        DraftError::Malformed(why) => MatrixError::bad_json(why),
    }
}

/// What has to stand in the place of a state event when it is sent. Whoever reads a state event, changes
/// it and sends it says by this what he read: what somebody else wrote meanwhile is not undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Over {
    /// Nothing.
    Nothing,
    /// This event.
    Event(OwnedEventId),
}

impl Over {
    /// Says that this is what was read.
    pub fn read(event: Option<&RoomEvent>) -> Self {
        event.map_or(Self::Nothing, |event| Self::Event(event.event.event_id().to_owned()))
    }

    pub(crate) fn is(&self, current: Option<&Arc<RoomEvent>>) -> bool {
        match self {
            Self::Nothing => current.is_none(),
            Self::Event(id) => current.is_some_and(|current| current.event.event_id() == id),
        }
    }
}

/// The status of an answer that says: something else stands there than the proposal was made from.
pub const CHANGED_MEANWHILE: u16 = 409;

/// Makes the proposal of a state event.
pub fn state_event(
    sender: &OwnedUserId,
    kind: &str,
    state_key: String,
    content: CanonicalJsonObject,
) -> Proposal {
    Proposal {
        sender: sender.clone(),
        event_type: kind.into(),
        state_key: Some(state_key),
        content,
        redacts: None,
        txn: None,
        over: None,
    }
}

/// Makes the proposal of a member event.
pub fn member(sender: &UserId, target: &UserId, content: CanonicalJsonObject) -> Proposal {
    Proposal {
        sender: sender.to_owned(),
        event_type: TimelineEventType::RoomMember,
        state_key: Some(target.to_string()),
        content,
        redacts: None,
        txn: None,
        over: None,
    }
}

/// Takes JSON as the content of an event.
///
/// # Errors
/// `M_BAD_JSON` when it is no object or contains what canonical JSON does not allow.
pub fn content(value: Value) -> Result<CanonicalJsonObject, MatrixError> {
    match CanonicalJsonValue::try_from(value) {
        Ok(CanonicalJsonValue::Object(content)) => Ok(content),
        Ok(_) => Err(MatrixError::bad_json("the content of an event is an object")),
        Err(error) => Err(MatrixError::bad_json(error.to_string())),
    }
}
