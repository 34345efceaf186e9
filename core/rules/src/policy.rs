//! Policy servers: one that a room asks what of it should be in the room. Which server that is, what it is asked
//! about, and whether it signed an event. Its word is beside the authorization rules, not one of them: what it does
//! not recommend is soft-failed.
//!
//! Source: Matrix v1.19, server-server, "Policy Servers", and client-server, `m.room.policy`.

use colonnade_model::ruma::{
    OwnedServerName, ServerName,
    events::TimelineEventType,
    room_version_rules::RoomVersionRules,
    serde::{
        Base64,
        base64::{Standard, UrlSafe},
    },
};
use serde_json::Value;

use crate::{
    event::{Event, EventObject, Malformed},
    signature,
};

#[cfg(test)]
mod tests;

/// The type of the state event that names a room's policy server.
pub const ROOM_POLICY: &str = "m.room.policy";
/// The id of its key, whatever key it is.
pub const KEY_ID: &str = "ed25519:policy_server";

/// A room's policy server, as the room names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomPolicy {
    server: OwnedServerName,
    /// `None`: what the room says is no key, so nothing is ever signed.
    key: Option<[u8; 32]>,
}

impl RoomPolicy {
    /// Reads the room's `m.room.policy`; `None` when it names nobody. Whether somebody of that server is in the
    /// room, without whom it is not asked, is not known here.
    pub fn read(event: &Event) -> Option<Self> {
        let content: Value = event.content_as().ok()?;
        let server = OwnedServerName::try_from(content.get("via")?.as_str()?).ok()?;
        let key = content.get("public_keys")?.get("ed25519")?.as_str()?;
        Some(Self { server, key: key_bytes(key) })
    }

    /// Returns the server's name.
    pub fn server(&self) -> &ServerName {
        &self.server
    }

    /// Tells whether it signed an event.
    ///
    /// # Errors
    /// [`Malformed`] for what is no event.
    pub fn has_signed(&self, event: &Event, rules: &RoomVersionRules) -> Result<bool, Malformed> {
        let object = EventObject::parse(event.json(), rules)?;
        let mut signatures = object.signatures(self.server.as_str());
        let (Some(key), Some((_, signature))) =
            (self.key, signatures.find(|(key_id, _)| *key_id == KEY_ID))
        else {
            return Ok(false);
        };
        Ok(signature::is_right(&key, signature, object.signed_json(rules)?.as_bytes()))
    }

    /// Returns an event with a signature of it, right or wrong, in the place of one from before. Its id stays.
    ///
    /// # Errors
    /// [`Malformed`] when that is too large for an event.
    pub fn with_signature(
        &self,
        event: &Event,
        signature: &str,
        rules: &RoomVersionRules,
    ) -> Result<Event, Malformed> {
        let object = EventObject::parse(event.json(), rules)?;
        Event::parse(&object.with_signature(self.server.as_str(), KEY_ID, signature), rules)
    }
}

/// Tells whether a policy server is asked about an event: about all but the one that names it, so that whoever may
/// can always take it away.
pub fn is_asked_about(event_type: &TimelineEventType, state_key: Option<&str>) -> bool {
    !(event_type.to_string() == ROOM_POLICY && state_key == Some(""))
}

/// Reads a key in either alphabet of base64: the specification's own example is in the second.
fn key_bytes(text: &str) -> Option<[u8; 32]> {
    let standard = Base64::<Standard>::parse(text).ok().map(Base64::into_inner);
    let bytes = standard.or_else(|| Some(Base64::<UrlSafe>::parse(text).ok()?.into_inner()));
    bytes?.try_into().ok()
}
