//! What a client sees of an event.

use std::collections::BTreeMap;

use colonnade_model::ruma::{
    EventId, MilliSecondsSinceUnixEpoch, RoomId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::Event;

/// Which fields a client gets (Matrix v1.19, client-server, §Room event format).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientFormat {
    /// `ClientEvent`: with `room_id`, for endpoints about events of any room.
    WithRoom,
    /// The same, and `user_id` for the sender, as clients from before there was `/sync` read it.
    WithRoomAndUser,
    /// `ClientEventWithoutRoomID`: where the room is said elsewhere, as in `/sync`.
    WithoutRoom,
    /// `StrippedStateEvent`: type, state key, sender and content, for those not in the room.
    Stripped,
}

/// The `unsigned` object of an event for one client.
///
/// Everything in it depends on who asks and when, so it is never stored with the event.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Unsigned<'a> {
    /// Milliseconds since the event was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age: Option<i64>,
    /// The id the sending device gave the request; only for that device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<&'a str>,
    /// The content of the state event this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_content: Option<&'a RawValue>,
    /// The sender of the state event this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prev_sender: Option<&'a UserId>,
    /// The id of the state event this one replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces_state: Option<&'a EventId>,
    /// The client's membership at the time of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub membership: Option<MembershipState>,
    /// The id of the redaction that redacted the event, as clients of before read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_by: Option<&'a EventId>,
    /// The redaction that redacted the event, in client format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redacted_because: Option<&'a RawValue>,
    /// Bundled aggregations.
    #[serde(rename = "m.relations", skip_serializing_if = "Option::is_none")]
    pub relations: Option<&'a RawValue>,
    /// Stripped state of a room the client is invited to or knocking on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_room_state: Option<&'a [Box<RawValue>]>,
}

#[derive(Serialize)]
struct Rendered<'a> {
    content: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin_server_ts: Option<MilliSecondsSinceUnixEpoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redacts: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    sender: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_key: Option<&'a str>,
    #[serde(rename = "type")]
    event_type: &'a TimelineEventType,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsigned: Option<&'a Unsigned<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a UserId>,
}

impl Event {
    /// Renders the event for a client.
    ///
    /// A redaction says what it redacts both at the top level and in its content, whatever the
    /// room version (Matrix v1.19, client-server, §m.room.redaction).
    pub fn to_client(
        &self,
        format: ClientFormat,
        unsigned: Option<&Unsigned<'_>>,
    ) -> Box<RawValue> {
        let full = format != ClientFormat::Stripped;
        let with_user = format == ClientFormat::WithRoomAndUser;
        let with_room = with_user || format == ClientFormat::WithRoom;
        let with_redacts =
            self.redacts().and_then(|id| content_with_redacts(self.shown_content(), id));
        render(&Rendered {
            content: with_redacts.as_deref().unwrap_or(self.shown_content()),
            event_id: full.then_some(self.event_id()),
            origin_server_ts: full.then_some(self.origin_server_ts()),
            redacts: self.redacts().filter(|_| full),
            room_id: with_room.then_some(self.room_id()),
            sender: self.sender(),
            state_key: self.state_key(),
            event_type: self.event_type(),
            unsigned: unsigned.filter(|_| full),
            user_id: with_user.then_some(self.sender()),
        })
    }
}

/// Adds `redacts` to the content of a redaction of an older room version.
fn content_with_redacts(content: &RawValue, redacts: &EventId) -> Option<Box<RawValue>> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(content.get()).ok()?;
    if fields.contains_key("redacts") {
        return None;
    }
    fields.insert("redacts".to_owned(), render(&redacts));
    Some(render(&fields))
}

fn render(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("strings, integers and JSON always serialise")
}
