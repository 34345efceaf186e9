//! Coming into a room over a server that is in it, leaving it so, and knocking: the other server fills an event
//! in, this one signs it, the other one takes it.
//!
//! Source: Matrix v1.19, server-server, "Joining Rooms", "Knocking upon a room", "Leaving Rooms".

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, RoomId, RoomVersionId, ServerName,
        UserId,
    },
    versions,
};
use colonnade_rooms::{
    Error, Room,
    incoming::{Incoming, StateBefore},
    remote::Outcome,
};
use colonnade_rules::event::{Event, complete};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use super::{EVENTS_MAX, Messaging, MessagingError, path, pdus::in_order};
use crate::transport::Request;

/// How long a server may take to answer a join with a room of many members.
const JOIN: Duration = Duration::from_secs(180);
/// How long other questions may take.
const QUESTION: Duration = Duration::from_secs(30);
/// How large a room may be when it is joined, in bytes.
const ROOM_BYTES_MAX: u64 = 512 * 1024 * 1024;
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
struct Joined {
    #[serde(default)]
    state: Vec<Box<RawValue>>,
    #[serde(default)]
    auth_chain: Vec<Box<RawValue>>,
    #[serde(default)]
    event: Option<Box<RawValue>>,
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

    /// Joins a room over a server that is in it: sends it the join, stores the state it answers with and
    /// enters the room.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn send_join(
        &self,
        server: &ServerName,
        version: &RoomVersionId,
        join: Event,
    ) -> Result<Arc<Room>, MessagingError> {
        let room_id = join.room_id().to_owned();
        let joined: Joined =
            self.put_in_either_form(server, "send_join", &join, JOIN, ROOM_BYTES_MAX).await?;
        let (state, chain) = (joined.state, joined.auth_chain);
        if state.len() + chain.len() > EVENTS_MAX {
            return Err(MessagingError::Unusable(format!("{} events", state.len() + chain.len())));
        }
        let room = self.rooms.elsewhere(&room_id, version).await?;
        let join = match joined.event {
            Some(event) => self.completed_join(&room, &join, event).await?,
            None => join,
        };
        let chain_len = chain.len();
        let all: Vec<Box<RawValue>> = chain.into_iter().chain(state).collect();
        tracing::info!(room = %room_id, events = all.len(), %server, "a room is being joined");
        let looked = self.look_at(&room.rules, all).await?;
        let in_state: BTreeSet<OwnedEventId> =
            looked[chain_len..].iter().filter_map(|one| one.event_id.clone()).collect();
        let in_state: Vec<OwnedEventId> = in_state.into_iter().collect();
        let events = in_order(&room, looked);
        require_create(&room, &events)?;
        self.add_what_hangs_together(&room, events).await?;
        let state = self.rooms.nids_of(&room, &in_state).await?;
        let before = StateBefore::Entered(state);
        match self.rooms.receive(&room, Incoming { event: join, before }).await? {
            (_, Outcome::Rejected) => {
                let why = "the room's own state does not allow the join".to_owned();
                Err(MessagingError::Unusable(why))
            }
            _ => Ok(room),
        }
    }

    /// Takes a join that the other server signed too, as restricted rooms want it. It must be the event
    /// that was sent.
    async fn completed_join(
        &self,
        room: &Room,
        sent: &Event,
        returned: Box<RawValue>,
    ) -> Result<Event, MessagingError> {
        let mut events = self.usable(room, vec![returned]).await?;
        match events.pop().filter(|event| event.event_id() == sent.event_id()) {
            Some(event) => Ok(event),
            None => Ok(sent.clone()),
        }
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
        let Value::Object(_) =
            self.put_in_either_form(server, "send_leave", leave, QUESTION, LEFT_BYTES_MAX).await?
        else {
            return Err(MessagingError::Unusable("no object for a leave".to_owned()));
        };
        Ok(())
    }

    /// Sends an event to the second version of an endpoint; to a server of before, which does not know that, to the
    /// first, whose answer stands behind a status in an array.
    async fn put_in_either_form<T: DeserializeOwned>(
        &self,
        server: &ServerName,
        endpoint: &str,
        event: &Event,
        within: Duration,
        bytes_max: u64,
    ) -> Result<T, MessagingError> {
        let last = Some(event.event_id().as_str());
        let request = |version: &str| {
            let address = path(&format!("{version}/{endpoint}"), event.room_id(), last);
            let request = Request::put(address, &raw(event)?)?;
            Ok::<_, MessagingError>(request.within(within).taking(bytes_max).ignoring_backoff())
        };
        match self.transport.send(server, request("v2")?).await {
            Err(error) if error.is_unrecognized() => {}
            answer => return Ok(answer?.json().await?),
        }
        let answer = self.transport.send(server, request("v1")?).await?;
        let (_, answer): (u16, T) = answer.json().await?;
        Ok(answer)
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

/// A room begins with a create event that says its version.
fn require_create(room: &Room, events: &[Event]) -> Result<(), MessagingError> {
    let create = events.iter().find(|event| event.is_state(&"m.room.create".into(), ""));
    let version = create.and_then(|create| {
        let content: Value = create.content_as().ok()?;
        Some(content["room_version"].as_str().unwrap_or("1").to_owned())
    });
    match version.as_deref() == Some(room.version.as_str()) {
        true => Ok(()),
        false => Err(MessagingError::Unusable("a room without a beginning".to_owned())),
    }
}

/// Writes an event as other servers read it.
pub(super) fn raw(event: &Event) -> Result<Box<RawValue>, MessagingError> {
    let raw = RawValue::from_string(event.json().to_owned());
    raw.map_err(|error| MessagingError::Unusable(error.to_string()))
}
