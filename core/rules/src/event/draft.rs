//! Making an event: fill in a [`Draft`], sign it.

use colonnade_model::{
    random::Random,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, Int, MilliSecondsSinceUnixEpoch, OwnedEventId,
        OwnedRoomId, OwnedUserId, ServerName,
        events::TimelineEventType,
        room_version_rules::{
            EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules,
        },
        signatures::{KeyPair, hash_and_sign_event},
    },
};
use serde_json::value::RawValue;

use super::{
    EVENT_BYTES_MAX, Event, EventObject, FIELD_BYTES_MAX, Reference, malformed::DEPTH_MAX,
};

/// The most events one event may follow (Matrix v1.19, rooms, §Event format).
const PREV_EVENTS_MAX: usize = 20;
/// The most events one event may be allowed by (Matrix v1.19, rooms, §Event format).
const AUTH_EVENTS_MAX: usize = 10;
/// Characters of the random part of an event's id, for versions that need one: 107 bits, so that no two
/// events of a server ever have the same.
const OPAQUE_ID_LEN: usize = 18;

/// An event that has no hash, no signature and so no id yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room; `None` only for a create event that makes its own room id.
    pub room_id: Option<OwnedRoomId>,
    /// Who sends it.
    pub sender: OwnedUserId,
    /// Its type.
    pub event_type: TimelineEventType,
    /// Its state key, for a state event.
    pub state_key: Option<String>,
    /// Its content; see [`content_from_json`].
    pub content: CanonicalJsonObject,
    /// The forward extremities it follows; see [`Event::reference`].
    pub prev_events: Vec<Reference>,
    /// The events that allow it. The create event may be among them whatever the room version;
    /// where it must not be, it is left out.
    pub auth_events: Vec<Reference>,
    /// See [`depth_after`].
    pub depth: u64,
    /// When it is sent.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// What an `m.room.redaction` redacts; put where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// The random part of the id where the id is not made from the event; see [`Draft::opaque_id`].
    pub opaque_id: Option<String>,
}

/// Why a draft cannot become an event. Always what a client asked for is at fault.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DraftError {
    /// The event is too large (`M_TOO_LARGE`).
    #[error("event of {bytes} bytes is larger than {EVENT_BYTES_MAX}")]
    TooLarge {
        /// The bytes of its canonical JSON.
        bytes: usize,
    },
    /// A field is too long (`M_TOO_LARGE`).
    #[error("`{field}` of {bytes} bytes is longer than {FIELD_BYTES_MAX}")]
    FieldTooLong {
        /// Which.
        field: &'static str,
        /// Its bytes.
        bytes: usize,
    },
    /// Something else no event may contain (`M_BAD_JSON`).
    #[error("malformed event: {0}")]
    Malformed(String),
}

/// Returns the depth of an event after events of these depths: one more than the greatest, as far
/// as canonical JSON can say it. 1 for the first event of a room.
pub fn depth_after(depths: impl IntoIterator<Item = u64>) -> u64 {
    depths.into_iter().max().unwrap_or(0).saturating_add(1).min(DEPTH_MAX)
}

/// Reads a client's JSON as the content of an event: an object without floating-point numbers and
/// without integers beyond ±(2^53 − 1) (Matrix v1.19, appendices, §Canonical JSON).
///
/// # Errors
/// [`DraftError::Malformed`] for any other JSON, [`DraftError::TooLarge`] for so much of it that
/// no event could contain it.
pub fn content_from_json(json: &RawValue) -> Result<CanonicalJsonObject, DraftError> {
    // Escapes make JSON longer than its canonical form, at most six bytes for one.
    if json.get().len() > 6 * EVENT_BYTES_MAX {
        return Err(DraftError::TooLarge { bytes: json.get().len() });
    }
    serde_json::from_str(json.get()).map_err(|error| DraftError::Malformed(error.to_string()))
}

/// Hashes and signs an event that another server filled in for one of our users.
///
/// # Errors
/// [`DraftError`] when it is too large or no event of that room version.
pub fn complete(
    mut object: CanonicalJsonObject,
    server: &ServerName,
    key: &impl KeyPair,
    rules: &RoomVersionRules,
    random: &dyn Random,
) -> Result<Event, DraftError> {
    object.remove("unsigned");
    if let (Some(opaque_id), None) = (Draft::opaque_id(rules, random), object.get("event_id")) {
        object.insert("event_id".to_owned(), format!("${opaque_id}:{server}").into());
    }
    sign_object(object, server, key, rules)
}

fn sign_object(
    mut object: CanonicalJsonObject,
    server: &ServerName,
    key: &impl KeyPair,
    rules: &RoomVersionRules,
) -> Result<Event, DraftError> {
    let signed = hash_and_sign_event(server.as_str(), key, &mut object, &rules.redaction);
    // Before anything else is said: signing, and computing the id, refuse a large event too, but
    // as malformed.
    let bytes = serde_json::to_vec(&object)
        .map_err(|error| DraftError::Malformed(error.to_string()))?
        .len();
    if bytes > EVENT_BYTES_MAX {
        return Err(DraftError::TooLarge { bytes });
    }
    signed.map_err(|error| DraftError::Malformed(error.to_string()))?;
    Event::from_object(&EventObject::from(object), rules)
        .map_err(|error| DraftError::Malformed(error.0))
}

impl Draft {
    /// Draws the random part of an event's id, in the room versions that need one: 1 and 2.
    pub fn opaque_id(rules: &RoomVersionRules, random: &dyn Random) -> Option<String> {
        let is_drawn = rules.event_id_format == EventIdFormatVersion::V1;
        is_drawn.then(|| random.alphanumeric(OPAQUE_ID_LEN))
    }

    /// Hashes and signs the event for a server.
    ///
    /// # Errors
    /// [`DraftError`] when it is too large or contains what no event may.
    pub fn sign(
        self,
        server: &ServerName,
        key: &impl KeyPair,
        rules: &RoomVersionRules,
    ) -> Result<Event, DraftError> {
        self.check(rules)?;
        sign_object(self.into_object(server, rules)?, server, key, rules)
    }

    /// Returns the event without hash and signatures, for the server of its sender to complete.
    ///
    /// # Errors
    /// [`DraftError::Malformed`] when an event it names has no hash.
    pub fn template(
        self,
        server: &ServerName,
        rules: &RoomVersionRules,
    ) -> Result<CanonicalJsonObject, DraftError> {
        let mut object = self.into_object(server, rules)?;
        // Its own server draws the id.
        object.remove("event_id");
        Ok(object)
    }

    fn check(&self, rules: &RoomVersionRules) -> Result<(), DraftError> {
        let room_id = self.room_id.as_deref().map_or("", |room_id| room_id.as_str());
        let event_type = self.event_type.to_string();
        let state_key = self.state_key.as_deref().unwrap_or("");
        for (field, value) in [
            ("sender", self.sender.as_str()),
            ("room_id", room_id),
            ("type", &event_type),
            ("state_key", state_key),
        ] {
            if value.len() > FIELD_BYTES_MAX {
                return Err(DraftError::FieldTooLong { field, bytes: value.len() });
            }
            // Not forbidden by the specification, but PostgreSQL cannot store it as text.
            if value.contains('\0') {
                return Err(DraftError::Malformed(format!("`{field}` contains U+0000")));
            }
        }
        let makes_room = self.event_type == TimelineEventType::RoomCreate
            && !rules.event_format.require_room_create_room_id;
        if self.room_id.is_none() != makes_room {
            let why = "`room_id` must be given, and only a create event that makes it has none";
            return Err(DraftError::Malformed(why.to_owned()));
        }
        for (field, len, most) in [
            ("prev_events", self.prev_events.len(), PREV_EVENTS_MAX),
            ("auth_events", self.auth_events.len(), AUTH_EVENTS_MAX),
        ] {
            if len > most {
                return Err(DraftError::Malformed(format!("more than {most} `{field}`")));
            }
        }
        Ok(())
    }

    fn into_object(
        self,
        server: &ServerName,
        rules: &RoomVersionRules,
    ) -> Result<CanonicalJsonObject, DraftError> {
        let mut content = self.content;
        let mut object = CanonicalJsonObject::new();
        let mut put = |field: &str, value: CanonicalJsonValue| {
            object.insert(field.to_owned(), value);
        };
        if let Some(redacts) = self.redacts {
            let redacts = CanonicalJsonValue::String(redacts.to_string());
            if rules.redaction.content_field_redacts {
                content.insert("redacts".to_owned(), redacts);
            } else {
                put("redacts", redacts);
            }
        }
        if rules.event_id_format == EventIdFormatVersion::V1 {
            let missing = || DraftError::Malformed("no id was drawn for it".to_owned());
            let opaque_id = self.opaque_id.ok_or_else(missing)?;
            put("event_id", format!("${opaque_id}:{server}").into());
        }
        // Matrix v1.19, rooms, v12, §Event format: the room id names the create event already.
        let create_hash = self
            .room_id
            .as_ref()
            .filter(|_| !rules.event_format.allow_room_create_in_auth_events)
            .map(|room_id| room_id.strip_sigil().to_owned());
        let is_create = |id: &OwnedEventId| {
            create_hash.as_deref().is_some_and(|hash| id.as_str().strip_prefix('$') == Some(hash))
        };
        let mut auth_events = self.auth_events;
        auth_events.retain(|named| !is_create(&named.event_id));
        put("auth_events", references(auth_events, rules)?);
        put("prev_events", references(self.prev_events, rules)?);
        put("content", CanonicalJsonValue::Object(content));
        // In range after the minimum; an `Int` holds 53 bits.
        let depth = Int::try_from(self.depth.min(DEPTH_MAX)).unwrap_or(Int::MAX);
        put("depth", CanonicalJsonValue::Integer(depth));
        let ts = Int::try_from(u64::from(self.origin_server_ts.0)).unwrap_or(Int::MAX);
        put("origin_server_ts", CanonicalJsonValue::Integer(ts));
        if let Some(room_id) = self.room_id {
            put("room_id", room_id.to_string().into());
        }
        put("sender", self.sender.to_string().into());
        if let Some(state_key) = self.state_key {
            put("state_key", state_key.into());
        }
        put("type", self.event_type.to_string().into());
        Ok(object)
    }
}

/// Writes references as the room version wants them: ids, or pairs of an id and hashes.
fn references(
    references: Vec<Reference>,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonValue, DraftError> {
    let write = |Reference { event_id, sha256 }: Reference| {
        let id = CanonicalJsonValue::String(event_id.to_string());
        if rules.events_reference_format == EventsReferenceFormatVersion::V2 {
            return Ok(id);
        }
        let missing = || DraftError::Malformed(format!("no hash of {event_id} is known"));
        let sha256 = sha256.ok_or_else(missing)?;
        let hashes = CanonicalJsonObject::from([("sha256".to_owned(), sha256.into())]);
        Ok(CanonicalJsonValue::Array(vec![id, CanonicalJsonValue::Object(hashes)]))
    };
    Ok(CanonicalJsonValue::Array(references.into_iter().map(write).collect::<Result<_, _>>()?))
}
