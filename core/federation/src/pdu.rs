//! Events of other servers before they are events of a room: size and form, signatures and hashes. What
//! passes goes on to the room. Nothing here waits or looks anything up: a PDU says which keys it needs, and
//! whoever has fetched them gives them back. It may import `transaction`, `keys` and `transport`.
//!
//! ```text
//! let room = pdu::room_of(text);                   // whose version has these rules
//! let pdu = Pdu::read(text.get(), &rules)?;        // step 1 of the checks on receipt
//! let keys = fetch(pdu.required_keys()).await;     // several PDUs at once, if there are
//! let checked = pdu.check(&keys)?;                 // steps 2 and 3; `checked.event` is what goes on
//! ```
//!
//! Source: Matrix v1.19, server-server, §Checks performed on receipt of a PDU, steps 1 to 3, and §Validating
//! hashes and signatures on received events. Steps 4 to 6 are the room's.

use colonnade_model::ruma::{EventId, OwnedRoomId, room_version_rules::RoomVersionRules};
use colonnade_rules::event::{Event, EventObject};
use serde::Deserialize;
use serde_json::value::RawValue;

mod refused;
mod signatures;

#[cfg(test)]
mod tests;

pub use self::{
    refused::Refused,
    signatures::{PublicKeys, RequiredKeys},
};

/// A PDU of the right form that says which servers signed it; whether they did is not known yet.
#[derive(Clone, Debug)]
pub struct Pdu {
    object: EventObject,
    event: Event,
    rules: RoomVersionRules,
    required: Vec<RequiredKeys>,
}

/// A PDU whose signatures are right.
#[derive(Clone, Debug)]
pub struct CheckedPdu {
    /// The event; what redaction leaves of it, if its content is not what its server hashed.
    pub event: Event,
    /// Whether only that is left.
    pub is_redacted: bool,
}

/// Returns the room a PDU says it is in, to look its version up; `None` where it says none.
pub fn room_of(pdu: &RawValue) -> Option<OwnedRoomId> {
    #[derive(Deserialize)]
    struct InRoom {
        room_id: OwnedRoomId,
    }
    serde_json::from_str::<InRoom>(pdu.get()).ok().map(|pdu| pdu.room_id)
}

impl Pdu {
    /// Reads a PDU of a room with these rules.
    ///
    /// # Errors
    /// [`Refused::Malformed`]; [`Refused::NotSigned`] when it names no signature of a server that must
    /// have signed it.
    pub fn read(json: &str, rules: &RoomVersionRules) -> Result<Self, Refused> {
        let object = EventObject::parse(json, rules)?;
        let event = Event::parse(&object, rules)?;
        let servers = signatures::required_servers(&object, &event, rules)?;
        let required = servers.into_iter().map(|server| {
            let key_ids = signatures::key_ids(&object, &server);
            if key_ids.is_empty() {
                return Err(Refused::NotSigned(server));
            }
            Ok(RequiredKeys {
                server,
                key_ids,
                origin_server_ts: event.origin_server_ts(),
                is_validity_enforced: rules.enforce_key_validity,
            })
        });
        let required = required.collect::<Result<_, _>>()?;
        Ok(Self { object, event, rules: rules.clone(), required })
    }

    /// Returns its event id.
    pub fn event_id(&self) -> &EventId {
        self.event.event_id()
    }

    /// Returns the event it claims to be, to look at before it is checked: who sent it, what it follows.
    pub fn claimed(&self) -> &Event {
        &self.event
    }

    /// Returns the keys without which it cannot be checked, one entry for a server. Empty only for an invite by
    /// a third-party id: that is allowed by what it was invited with.
    pub fn required_keys(&self) -> &[RequiredKeys] {
        &self.required
    }

    /// Checks the signatures, then the hash of the content.
    ///
    /// # Errors
    /// [`Refused`], all but [`Refused::NotSigned`].
    pub fn check(self, keys: &impl PublicKeys) -> Result<CheckedPdu, Refused> {
        let Self { object, event, rules, required } = self;
        let signed = object.signed_json(&rules)?;
        for required in &required {
            signatures::verify(&object, required, signed.as_bytes(), keys)?;
        }
        if object.has_content_hash()? {
            return Ok(CheckedPdu { event, is_redacted: false });
        }
        let redacted = Event::parse(&object.redacted(&rules)?, &rules)?;
        debug_assert_eq!(redacted.event_id(), event.event_id(), "redaction keeps the id");
        Ok(CheckedPdu { event: redacted, is_redacted: true })
    }
}
