//! Leaving a room over a server that is in it, and knocking; and what these and joining begin with: the other
//! server fills an event in, this one signs it, the other one takes it.
//!
//! Source: Matrix v1.19, server-server, "Joining Rooms", "Knocking upon a room", "Leaving Rooms".

use std::time::Duration;

use colonnade_model::{
    MatrixError,
    ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId, RoomVersionId, ServerName, UserId},
    versions,
};
use colonnade_rooms::Error;
use colonnade_rules::event::{Event, complete};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{Messaging, MessagingError, path, state_answer::Form};
use crate::transport::{Request, Response};

/// How long a question may take.
const QUESTION: Duration = Duration::from_secs(30);
/// How large the answer to a leave may be, in bytes: it says nothing.
const LEFT_BYTES_MAX: u64 = 64 * 1024;

/// An event that another server filled in.
#[derive(Debug)]
pub struct Template {
    /// The room's version.
    pub version: RoomVersionId,
    /// The event, without hash and signatures.
    pub event: CanonicalJsonObject,
}

/// What a user of this server wants to become in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A member.
    Join,
    /// Somebody who knocks.
    Knock,
    /// Neither, nor invited.
    Leave,
}

impl EntryKind {
    fn name(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Knock => "knock",
            Self::Leave => "leave",
        }
    }
}

#[derive(Deserialize)]
struct Made {
    room_version: Option<RoomVersionId>,
    event: CanonicalJsonObject,
}

#[derive(Deserialize)]
struct Knocked {
    #[serde(default)]
    knock_room_state: Vec<Value>,
}

impl Messaging {
    /// Asks a server to fill in the event by which a user becomes something in a room.
    ///
    /// # Errors
    /// [`MessagingError`]; `M_UNSUPPORTED_ROOM_VERSION`.
    pub async fn make(
        &self,
        server: &ServerName,
        room: &RoomId,
        user: &UserId,
        entry: EntryKind,
    ) -> Result<Template, MessagingError> {
        let endpoint = format!("v1/make_{}", entry.name());
        let mut address = path(&endpoint, room, Some(user.as_str()));
        if entry != EntryKind::Leave {
            let supported = versions::SUPPORTED.iter().map(|version| format!("ver={version}"));
            address = format!("{address}?{}", supported.collect::<Vec<_>>().join("&"));
        }
        let request = Request::get(address).within(QUESTION).ignoring_backoff();
        let Made { room_version, event } =
            self.transport.send(server, request).await?.json().await?;
        // Servers of before do not say a version; those rooms are of the first.
        let version = room_version.unwrap_or(RoomVersionId::V1);
        if versions::rules(&version).is_none() {
            let why = format!("the room is of version {version}, which is not known here");
            return Err(Error::from(MatrixError::unsupported_room_version(why)).into());
        }
        let says = |key: &str| event.get(key).and_then(CanonicalJsonValue::as_str);
        let content = event.get("content").and_then(CanonicalJsonValue::as_object);
        let membership = content.and_then(|content| content.get("membership")?.as_str());
        let is_right = says("type") == Some("m.room.member")
            && says("sender") == Some(user.as_str())
            && says("state_key") == Some(user.as_str())
            && says("room_id") == Some(room.as_str())
            && membership == Some(entry.name());
        match is_right {
            true => Ok(Template { version, event }),
            false => Err(MessagingError::Unusable("another event than was asked for".to_owned())),
        }
    }

    /// Completes an event that another server filled in.
    ///
    /// # Errors
    /// `M_BAD_JSON`, `M_TOO_LARGE`: nobody can make an event of it.
    pub fn complete(&self, template: Template) -> Result<Event, MessagingError> {
        let context = self.rooms.context();
        let rules = versions::rules(&template.version)
            .ok_or_else(|| MessagingError::Unusable("an unknown version".to_owned()))?;
        let mut event = template.event;
        let now = i64::min(context.now_ms(), (1 << 53) - 1);
        if let Ok(now) = now.try_into() {
            event.insert("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(now));
        }
        event.insert("origin".to_owned(), context.server_name.to_string().into());
        for key in ["hashes", "signatures", "event_id"] {
            event.remove(key);
        }
        let key = context.signing_key.current();
        complete(event, &context.server_name, &*key, &rules, &*context.random)
            .map_err(|error| MessagingError::Unusable(error.to_string()))
    }

    /// Leaves a room over a server that is in it.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn send_leave(
        &self,
        server: &ServerName,
        leave: &Event,
    ) -> Result<(), MessagingError> {
        let (response, form) =
            self.put_in_either_form(server, "send_leave", leave, QUESTION, LEFT_BYTES_MAX).await?;
        let answer: Value = response.json().await?;
        let said = match form {
            Form::Object => &answer,
            Form::BehindStatus => &answer[1],
        };
        match said.is_object() {
            true => Ok(()),
            false => Err(MessagingError::Unusable("no object for a leave".to_owned())),
        }
    }

    /// Sends an event to the second version of an endpoint; to a server of before, which does not know that, to the
    /// first, whose answer stands behind a status in an array.
    pub(super) async fn put_in_either_form(
        &self,
        server: &ServerName,
        endpoint: &str,
        event: &Event,
        within: Duration,
        bytes_max: u64,
    ) -> Result<(Response, Form), MessagingError> {
        let last = Some(event.event_id().as_str());
        let request = |version: &str| {
            let address = path(&format!("{version}/{endpoint}"), event.room_id(), last);
            let request = Request::put(address, &raw(event)?)?;
            Ok::<_, MessagingError>(request.within(within).taking(bytes_max).ignoring_backoff())
        };
        match self.transport.send(server, request("v2")?).await {
            Err(error) if error.is_unrecognized() => {}
            answer => return Ok((answer?, Form::Object)),
        }
        Ok((self.transport.send(server, request("v1")?).await?, Form::BehindStatus))
    }

    /// Knocks at a room over a server that is in it; returns the state that it shows of the room.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn send_knock(
        &self,
        server: &ServerName,
        knock: &Event,
    ) -> Result<Vec<Value>, MessagingError> {
        let address = path("v1/send_knock", knock.room_id(), Some(knock.event_id().as_str()));
        let request = Request::put(address, &raw(knock)?)?.within(QUESTION).ignoring_backoff();
        let knocked: Knocked = self.transport.send(server, request).await?.json().await?;
        Ok(knocked.knock_room_state)
    }
}

/// Writes an event as other servers read it.
pub(super) fn raw(event: &Event) -> Result<Box<RawValue>, MessagingError> {
    let raw = RawValue::from_string(event.json().to_owned());
    raw.map_err(|error| MessagingError::Unusable(error.to_string()))
}
