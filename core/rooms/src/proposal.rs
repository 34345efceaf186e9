//! An event somebody on this server wants to send, before it is one.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    nid::EventNid,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId,
        OwnedUserId, UInt, UserId, events::TimelineEventType,
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
    /// The event that was made of it, by id, with the signature of the room's policy server.
    pub signed: Option<(OwnedEventId, String)>,
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
        signed: None,
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
        signed: None,
    }
}

/// Writes a time, in milliseconds since 1970, as events have it.
pub fn timestamp(ms: i64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(ms).unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::{EventNid, RoomNid, TypeNid, UserNid},
        ruma::{event_id, user_id},
    };
    use colonnade_rules::push::PushOutcome;
    use colonnade_storage::rooms::events::EventFlags;
    use serde_json::json;

    use super::*;
    use crate::tests::event;

    fn stored(kind: &str) -> Arc<RoomEvent> {
        let event = event(kind, Some(""), json!({}));
        Arc::new(RoomEvent {
            nid: EventNid(1),
            room: RoomNid(1),
            event: Arc::new(event),
            sender: UserNid(1),
            event_type: TypeNid(1),
            state_key_nid: None,
            flags: EventFlags::default(),
            state_before: None,
            state_after: None,
            timeline_key: None,
            pos: None,
            thread: None,
            outcome: PushOutcome::Nothing,
        })
    }

    #[test]
    fn a_proposal_is_over_what_was_read_and_nothing_else() {
        let (one, other) = (stored("m.room.topic"), stored("m.room.name"));
        assert!(Over::read(Some(&one)).is(Some(&one)));
        assert!(!Over::read(Some(&one)).is(Some(&other)));
        assert!(!Over::read(Some(&one)).is(None));
        assert!(Over::read(None).is(None));
        assert!(!Over::read(None).is(Some(&one)));
    }

    #[test]
    fn what_was_read_is_the_same_after_the_way_to_the_owner() {
        let id = event_id!("$an:event").to_owned();
        for over in [Over::Nothing, Over::Event(id)] {
            let sent = serde_json::to_string(&over).unwrap();
            assert_eq!(serde_json::from_str::<Over>(&sent).unwrap(), over);
        }
    }

    #[test]
    fn the_content_of_an_event_is_an_object_of_canonical_json() {
        assert_eq!(content(json!({ "a": [1, "x", null] })).unwrap().len(), 1);
        for wrong in [
            json!([]),
            json!("text"),
            json!(null),
            json!({ "a": 0.5 }),
            json!({ "a": 9_007_199_254_740_992_i64 }),
        ] {
            assert_eq!(content(wrong.clone()).unwrap_err().errcode, "M_BAD_JSON", "{wrong}");
        }
        assert!(content(json!({ "a": 9_007_199_254_740_991_i64 })).is_ok());
    }

    #[test]
    fn what_is_too_long_and_what_is_no_event_have_codes_of_their_own() {
        let malformed = draft_error(DraftError::Malformed("why".to_owned()));
        assert_eq!((&*malformed.errcode, &*malformed.message), ("M_BAD_JSON", "why"));
        let long = DraftError::FieldTooLong { field: "type", bytes: 256 };
        assert_eq!(draft_error(long).errcode, "M_TOO_LARGE");
        assert_eq!(draft_error(DraftError::TooLarge { bytes: 65_537 }).errcode, "M_TOO_LARGE");
    }

    #[test]
    fn a_member_event_is_about_its_target_and_by_its_sender() {
        let ban = content(json!({ "membership": "ban" })).unwrap();
        let proposal = member(user_id!("@mod:a"), user_id!("@bad:b"), ban.clone());
        assert_eq!(proposal.sender, user_id!("@mod:a"));
        assert_eq!(proposal.state_key.as_deref(), Some("@bad:b"));
        assert_eq!(proposal.event_type, TimelineEventType::RoomMember);
        assert_eq!((proposal.content, proposal.txn, proposal.redacts), (ban, None, None));
    }
}
