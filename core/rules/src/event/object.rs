//! The JSON object of an event in the federation format: what is hashed, signed, redacted and stored.
//!
//! It is canonical JSON; in room versions 1 to 5 it may contain other numbers, which keep their spelling
//! (`numbers`). Whether it is an event at all is asked later, by [`Event::parse`](super::Event::parse).

use colonnade_model::{
    json,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId,
        canonical_json::{RedactingSerializer, redact},
        room_version_rules::{EventIdFormatVersion, RoomVersionRules},
        serde::{
            Base64,
            base64::{Standard, UrlSafe},
        },
    },
};
use sha2::{Digest as _, Sha256};

use super::{
    malformed::{EVENT_BYTES_MAX, Malformed},
    numbers::Mark,
};

/// The most bytes of the text of an event as it comes in. Escapes make JSON longer than its canonical form, at most
/// six bytes for one.
const TEXT_BYTES_MAX: usize = 6 * EVENT_BYTES_MAX;

/// An event's JSON object, with `hashes` and `signatures`. Without `unsigned`: that is nobody's signed word.
#[derive(Clone, Debug)]
pub struct EventObject {
    /// Where a number is set aside a string stands, which is none of the event's.
    fields: CanonicalJsonObject,
    numbers: Option<Mark>,
}

impl From<CanonicalJsonObject> for EventObject {
    fn from(mut fields: CanonicalJsonObject) -> Self {
        fields.remove("unsigned");
        Self { fields, numbers: None }
    }
}

impl EventObject {
    /// Reads the object of an event from outside.
    ///
    /// # Errors
    /// [`Malformed`] for what is no JSON object or breaks the rule of [`colonnade_model::json`] (depth, keys
    /// twice, numbers no float holds), and from room version 6 on for what is not canonical (Matrix v1.19,
    /// rooms, v6, §Canonical JSON).
    pub fn parse(json: &str, rules: &RoomVersionRules) -> Result<Self, Malformed> {
        if json.len() > TEXT_BYTES_MAX {
            return Err(Malformed(format!("larger than {EVENT_BYTES_MAX} bytes")));
        }
        json::check(json.as_bytes()).map_err(|error| Malformed(error.message))?;
        Self::read(json, rules)
    }

    /// Reads an object that was checked before.
    pub(super) fn read(json: &str, rules: &RoomVersionRules) -> Result<Self, Malformed> {
        let marked = if rules.authorization.strict_canonical_json { None } else { Mark::set(json) };
        let (numbers, marked) = marked.unzip();
        let fields = serde_json::from_str(marked.as_deref().unwrap_or(json));
        let mut fields: CanonicalJsonObject = fields.map_err(malformed)?;
        fields.remove("unsigned");
        Ok(Self { fields, numbers })
    }

    /// Returns a field; a string may stand for a number that was set aside.
    pub(super) fn get(&self, field: &str) -> Option<&CanonicalJsonValue> {
        self.fields.get(field)
    }

    /// Returns a field that is a string.
    pub fn string(&self, field: &str) -> Option<&str> {
        self.text_of(self.fields.get(field)?)
    }

    /// Returns a field of the content that is a string.
    pub fn content_string(&self, field: &str) -> Option<&str> {
        self.text_of(self.object("content")?.get(field)?)
    }

    /// Returns a field that is an object. A string in it may stand for a number that was set aside.
    pub fn object(&self, field: &str) -> Option<&CanonicalJsonObject> {
        self.fields.get(field)?.as_object()
    }

    /// Returns a field that is an integer from 0 to 2^64 − 1.
    pub fn integer(&self, field: &str) -> Option<u64> {
        match self.fields.get(field)? {
            CanonicalJsonValue::Integer(number) => i64::from(*number).try_into().ok(),
            CanonicalJsonValue::String(text) => self.numbers.as_ref()?.number(text)?.parse().ok(),
            _ => None,
        }
    }

    /// Returns the signatures that servers gave, by the id of the key, as base64.
    pub fn signatures(&self, server: &str) -> impl Iterator<Item = (&str, &str)> {
        let of_server = self.object("signatures").and_then(|all| all.get(server)?.as_object());
        of_server.into_iter().flatten().filter_map(|(key, text)| Some((&**key, text.as_str()?)))
    }

    /// Adds a server's signature, in the place of one with the same key.
    #[must_use]
    pub fn with_signature(mut self, server: &str, key_id: &str, signature: &str) -> Self {
        let nothing = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
        let all = self.fields.entry("signatures".to_owned()).or_insert_with(nothing);
        if let CanonicalJsonValue::Object(all) = all {
            let of_server = all.entry(server.to_owned()).or_insert_with(nothing);
            if let CanonicalJsonValue::Object(of_server) = of_server {
                of_server.insert(key_id.to_owned(), signature.into());
            }
        }
        self
    }

    /// Writes the whole object as it is stored and sent.
    pub fn json(&self) -> Result<String, Malformed> {
        self.written(RedactingSerializer::new())
    }

    /// Writes what the signatures are about: the redacted event without `signatures` and `unsigned` (Matrix v1.19,
    /// server-server, §Signing Events).
    ///
    /// # Errors
    /// [`Malformed`] without a `type`.
    pub fn signed_json(&self, rules: &RoomVersionRules) -> Result<String, Malformed> {
        let redacting = RedactingSerializer::new().rules(&rules.redaction);
        self.written(redacting.custom_redacted_root_fields(&["signatures", "unsigned"]))
    }

    /// Tells whether `hashes` names the hash of what is there (Matrix v1.19, server-server, §Calculating the
    /// content hash for an event).
    ///
    /// # Errors
    /// [`Malformed`] when it names no hash, or cannot be written.
    pub fn has_content_hash(&self) -> Result<bool, Malformed> {
        let fields = ["hashes", "signatures", "unsigned"];
        let whole = RedactingSerializer::new().custom_redacted_root_fields(&fields);
        let hash = Sha256::digest(self.written(whole)?);
        let named = self.object("hashes").and_then(|hashes| hashes.get("sha256")?.as_str());
        let named = named.ok_or_else(|| Malformed("`hashes` has no `sha256`".to_owned()))?;
        let named = Base64::<Standard>::parse(named).ok();
        Ok(named.is_some_and(|named| named.as_bytes() == &hash[..]))
    }

    /// Returns the reference hash (Matrix v1.19, server-server, §Calculating the reference hash for an event).
    fn reference_hash(&self, rules: &RoomVersionRules) -> Result<[u8; 32], Malformed> {
        Ok(Sha256::digest(self.signed_json(rules)?).into())
    }

    /// Returns the reference hash as events of room versions 1 and 2 say it of those they follow.
    pub(super) fn reference(&self, rules: &RoomVersionRules) -> Result<String, Malformed> {
        Ok(Base64::<Standard, _>::new(self.reference_hash(rules)?).encode())
    }

    /// Returns the id of the event: what it says itself in room versions 1 and 2, later its reference hash.
    ///
    /// # Errors
    /// [`Malformed`] where it says none.
    pub fn event_id(&self, rules: &RoomVersionRules) -> Result<OwnedEventId, Malformed> {
        let id = match rules.event_id_format {
            EventIdFormatVersion::V1 => {
                let given = self.string("event_id");
                given.ok_or_else(|| Malformed("missing `event_id`".to_owned()))?.to_owned()
            }
            // Matrix v1.19, rooms, v3, §Event IDs: a slash may be in it.
            EventIdFormatVersion::V2 => format!("${}", self.reference(rules)?),
            EventIdFormatVersion::V3 => {
                let hash = Base64::<UrlSafe, _>::new(self.reference_hash(rules)?);
                format!("${}", hash.encode())
            }
        };
        let id = EventId::parse(id).map_err(malformed)?;
        if rules.event_id_format == EventIdFormatVersion::V1 && id.server_name().is_none() {
            return Err(Malformed("`event_id` names no server".to_owned()));
        }
        Ok(id)
    }

    /// Returns what redaction leaves of it. Hashes, signatures and the id stay what they are.
    ///
    /// # Errors
    /// [`Malformed`] for what is no event.
    pub fn redacted(self, rules: &RoomVersionRules) -> Result<Self, Malformed> {
        let Self { fields, numbers } = self;
        Ok(Self { fields: redact(fields, &rules.redaction, None).map_err(malformed)?, numbers })
    }

    fn text_of<'a>(&self, value: &'a CanonicalJsonValue) -> Option<&'a str> {
        let text = value.as_str()?;
        let is_number = self.numbers.as_ref().is_some_and(|mark| mark.number(text).is_some());
        (!is_number).then_some(text)
    }

    fn written(&self, serializer: RedactingSerializer<'_>) -> Result<String, Malformed> {
        let json = serializer.serialize(&self.fields).map_err(malformed)?;
        Ok(match &self.numbers {
            Some(mark) => mark.restore(&json),
            None => json,
        })
    }
}

fn malformed(error: impl std::fmt::Display) -> Malformed {
    Malformed(error.to_string())
}
