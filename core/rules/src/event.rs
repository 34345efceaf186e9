//! The event: canonical JSON beside the few fields the server decides by.
//!
//! An [`Event`] comes from one of three places: [`Draft::sign`] makes a new one,
//! [`Event::parse`] checks one from outside, [`Event::from_stored`] reads back what either of
//! them produced. It never changes afterwards; share it as `Arc<Event>`. What a client sees of it
//! is rendered by [`Event::to_client`].

use std::sync::{Arc, LazyLock};

use colonnade_model::{
    json,
    ruma::{
        EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId,
        UserId,
        events::{TimelineEventType, room::member::MembershipState},
        room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
    },
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

mod client;
mod draft;
mod format;
mod malformed;
mod numbers;
mod object;
pub mod relation;
mod wire;

#[cfg(test)]
mod tests;

use self::wire::{ReferenceId, Wire};
pub use self::{
    client::{ClientFormat, Unsigned},
    draft::{Draft, DraftError, complete, content_from_json, depth_after},
    malformed::{EVENT_BYTES_MAX, FIELD_BYTES_MAX, Malformed},
    object::EventObject,
};

/// An event of a room, immutable.
#[derive(Clone, Debug)]
pub struct Event {
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    /// False for the create event of a room whose id is made from that event's id.
    names_room: bool,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    state_key: Option<Box<str>>,
    content: Box<RawValue>,
    /// The content as rules read it, where that is not the content itself.
    levels: Option<Box<RawValue>>,
    /// Its content is nested deeper than all clients can read.
    is_deep: bool,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    rejected: bool,
    json: Arc<str>,
}

/// An event that another one follows or is allowed by, as that one names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference {
    /// Its id.
    pub event_id: OwnedEventId,
    /// Its reference hash, in base64; only room versions 1 and 2 say it.
    pub sha256: Option<String>,
}

impl Event {
    /// Reads an event back from its stored canonical JSON, trusting that it was checked before.
    ///
    /// `rejected` is whether the event failed authorization when it was received.
    ///
    /// # Errors
    /// [`Malformed`] when the bytes are not an event of that room version.
    pub fn from_stored(
        json: Vec<u8>,
        event_id: OwnedEventId,
        rules: &RoomVersionRules,
        rejected: bool,
    ) -> Result<Self, Malformed> {
        let json = String::from_utf8(json).map_err(|error| Malformed(error.to_string()))?;
        Self::read(json.into(), event_id, rules, rejected)
    }

    /// Checks the form of an event from outside, its size and the length of its fields, and
    /// computes its id. Hashes, signatures and authorization are the caller's to check.
    ///
    /// # Errors
    /// [`Malformed`]; the event must be dropped (Matrix v1.19, server-server, §Checks performed
    /// on receipt of a PDU, step 1).
    pub fn parse(object: &EventObject, rules: &RoomVersionRules) -> Result<Self, Malformed> {
        let json = object.json()?;
        format::check(object, json.len(), rules)?;
        Self::read(json.into(), object.event_id(rules)?, rules, false)
    }

    /// Makes the event of a complete, signed object.
    fn from_object(object: &EventObject, rules: &RoomVersionRules) -> Result<Self, Malformed> {
        Self::read(object.json()?.into(), object.event_id(rules)?, rules, false)
    }

    fn read(
        json: Arc<str>,
        event_id: OwnedEventId,
        rules: &RoomVersionRules,
        rejected: bool,
    ) -> Result<Self, Malformed> {
        let wire: Wire<'_> =
            serde_json::from_str(&json).map_err(|error| Malformed(error.to_string()))?;
        let names_room = wire.room_id.is_some();
        let room_id = match wire.room_id {
            Some(room_id) => room_id,
            // Matrix v1.19, rooms, v12, §Event format: the room id is the create event's id
            // with another sigil.
            None if wire.event_type == TimelineEventType::RoomCreate
                && !rules.event_format.require_room_create_room_id =>
            {
                let hash = event_id.as_str().trim_start_matches('$');
                RoomId::parse(format!("!{hash}")).map_err(|error| Malformed(error.to_string()))?
            }
            None => return Err(Malformed("missing `room_id`".to_owned())),
        };
        let redacts = if wire.event_type == TimelineEventType::RoomRedaction {
            redacts_of(wire.redacts, wire.content, rules)
        } else {
            None
        };
        let has_floats = !rules.authorization.strict_canonical_json;
        let levels = match wire.event_type {
            TimelineEventType::RoomPowerLevels if has_floats => {
                numbers::truncate(wire.content.get()).map(RawValue::from_string).transpose()
            }
            _ => Ok(None),
        };
        Ok(Self {
            event_id,
            room_id,
            names_room,
            sender: wire.sender,
            event_type: wire.event_type,
            state_key: wire.state_key.map(String::into_boxed_str),
            content: wire.content.to_owned(),
            levels: levels.map_err(|error| Malformed(error.to_string()))?,
            is_deep: json::is_deep(wire.content.get()),
            origin_server_ts: wire.origin_server_ts,
            depth: wire.depth,
            prev_events: wire.prev_events.into_iter().map(|ReferenceId(id)| id).collect(),
            auth_events: wire.auth_events.into_iter().map(|ReferenceId(id)| id).collect(),
            redacts,
            rejected,
            json,
        })
    }

    /// Returns the event's id.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// Returns the room's id, also for a create event that does not name it.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// Returns who sent it.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// Returns its type.
    pub fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    /// Tells whether its type or state key is longer than the specification allows, as in old room versions some
    /// are.
    pub fn is_overlong(&self) -> bool {
        self.event_type.to_string().len() > FIELD_BYTES_MAX
            || self.state_key.as_ref().is_some_and(|state_key| state_key.len() > FIELD_BYTES_MAX)
    }

    /// Returns its state key; an event with one is a state event.
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// Tells whether it is a state event of that type and key.
    pub fn is_state(&self, event_type: &TimelineEventType, state_key: &str) -> bool {
        self.event_type == *event_type && self.state_key() == Some(state_key)
    }

    /// Returns its content, a JSON object.
    pub fn content(&self) -> &RawValue {
        &self.content
    }

    /// Returns the content as the authorization rules read it: as it is, but that the power levels of room
    /// versions 1 to 5 are integers, whatever numbers were written.
    pub fn content_for_rules(&self) -> &RawValue {
        self.levels.as_deref().unwrap_or(&self.content)
    }

    /// Returns the content as clients are shown it: an empty object in place of what older versions let
    /// pass and not every client can read, for in a sync it would make all of it unreadable.
    pub fn shown_content(&self) -> &RawValue {
        static NOTHING: LazyLock<Box<RawValue>> =
            LazyLock::new(|| RawValue::from_string("{}".to_owned()).expect("this is JSON"));
        if self.is_deep { &NOTHING } else { &self.content }
    }

    /// Reads the content as a type of the caller's choice.
    ///
    /// # Errors
    /// When the content does not fit; anybody may send any content.
    pub fn content_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content.get())
    }

    /// Returns the `membership` of an `m.room.member` event.
    pub fn membership(&self) -> Option<MembershipState> {
        #[derive(Deserialize)]
        struct Content {
            membership: MembershipState,
        }
        let content = (self.event_type == TimelineEventType::RoomMember)
            .then(|| self.content_as::<Content>());
        Some(content?.ok()?.membership)
    }

    /// Returns when its sender's server says it was sent; milliseconds since 1970.
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    /// Returns its depth, as its sender's server chose it.
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// Returns the events it follows.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// Returns the events that its sender says allow it.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// Returns what an `m.room.redaction` redacts, wherever the room version keeps that.
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref()
    }

    /// Tells whether it failed authorization when it was received.
    pub fn rejected(&self) -> bool {
        self.rejected
    }

    /// Returns the event marked as rejected, or not.
    pub fn with_rejected(self, rejected: bool) -> Self {
        Self { rejected, ..self }
    }

    /// Returns the canonical JSON in the federation format, without `unsigned`; what is stored.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Returns the same, for who keeps it: it is not copied.
    pub fn shared_json(&self) -> Arc<str> {
        Arc::clone(&self.json)
    }

    /// Returns about how many bytes of memory it takes, for a cache bounded by bytes.
    pub fn weight(&self) -> usize {
        // 64 bytes for each id, which its list may share with nobody.
        let ids = (self.prev_events.len() + self.auth_events.len() + 4) * 64;
        size_of::<Self>() + self.json.len() + self.content.get().len() + ids
    }

    /// Returns the event with everything removed that redaction removes. The id stays.
    ///
    /// What a client is told about the redaction goes into `unsigned` when it is rendered.
    ///
    /// # Errors
    /// [`Malformed`] when the stored JSON is not an event.
    pub fn redacted(&self, rules: &RoomVersionRules) -> Result<Self, Malformed> {
        let object = EventObject::read(&self.json, rules)?.redacted(rules)?;
        Self::read(object.json()?.into(), self.event_id.clone(), rules, self.rejected)
    }

    /// Returns the event as one that follows it, or is allowed by it, names it.
    ///
    /// # Errors
    /// [`Malformed`] when the stored JSON is not an event.
    pub fn reference(&self, rules: &RoomVersionRules) -> Result<Reference, Malformed> {
        let sha256 = match rules.events_reference_format {
            EventsReferenceFormatVersion::V1 => {
                Some(EventObject::read(&self.json, rules)?.reference(rules)?)
            }
            EventsReferenceFormatVersion::V2 => None,
        };
        Ok(Reference { event_id: self.event_id.clone(), sha256 })
    }
}

/// Returns what a redaction redacts. Nonsense there redacts nothing; it does not make the event
/// malformed, since other servers accept it.
fn redacts_of(
    top_level: Option<&RawValue>,
    content: &RawValue,
    rules: &RoomVersionRules,
) -> Option<OwnedEventId> {
    #[derive(Deserialize)]
    struct Content<'a> {
        #[serde(borrow)]
        redacts: &'a RawValue,
    }
    let id = if rules.redaction.content_field_redacts {
        serde_json::from_str::<Content<'_>>(content.get()).ok()?.redacts
    } else {
        top_level?
    };
    // No event has such an id, and no database keeps one.
    serde_json::from_str(id.get()).ok().filter(|id: &OwnedEventId| !id.as_str().contains('\0'))
}

impl colonnade_model::ruma::state_res::Event for Event {
    type Id = OwnedEventId;

    fn event_id(&self) -> &Self::Id {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        self.names_room.then_some(&*self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        self.content_for_rules()
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &Self::Id> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&Self::Id> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}
