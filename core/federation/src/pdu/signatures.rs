//! Who must have signed a PDU, and whether they did.
//!
//! Signatures are checked one by one and strictly ([`signature`]). That of a room's policy server is none of these:
//! its key is the room's word, and no server publishes it.

use std::collections::BTreeSet;

use colonnade_model::ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, ServerName, UserId,
    events::{TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use colonnade_rules::{
    event::{Event, EventObject, Malformed},
    policy, signature,
};

use super::refused::Refused;

/// Signatures of one server that are looked at, the first in the order of their ids: servers sign with one key, and
/// with two while they change it. What follows counts as not there, so that nobody makes us check thousands.
const SIGNATURES_MAX: usize = 16;

/// The only algorithm there is (Matrix v1.19, appendices, §Signing Details).
const ALGORITHM: &str = "ed25519:";

/// Who let somebody into a restricted room.
const AUTHORISED_BY: &str = "join_authorised_via_users_server";

/// The keys of one server that a PDU cannot be checked without: at least one of them must be known, and every
/// known one must have made its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequiredKeys {
    /// The server.
    pub server: OwnedServerName,
    /// Ids of the keys it signed with, such as `ed25519:1`.
    pub key_ids: Vec<String>,
    /// When the event says it was sent, in milliseconds since 1970. A key that expired before then is no key.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
    /// Whether the key must be valid at that time beyond doubt: its `valid_until_ts`, or seven days from now
    /// if that is less, is not before it (Matrix v1.19, rooms, v5, §Signing key validity period).
    pub is_validity_enforced: bool,
}

/// Finds public keys of servers.
pub trait PublicKeys {
    /// Returns the key of a server with an id such as `ed25519:1`, if it is known and counts for an event of
    /// that time (see [`RequiredKeys`]).
    fn public_key(&self, server: &ServerName, key_id: &str) -> Option<[u8; 32]>;
}

impl<F: Fn(&ServerName, &str) -> Option<[u8; 32]>> PublicKeys for F {
    fn public_key(&self, server: &ServerName, key_id: &str) -> Option<[u8; 32]> {
        self(server, key_id)
    }
}

/// Returns the servers that must have signed an event (Matrix v1.19, server-server, §Validating hashes and
/// signatures on received events; rooms, v8, §Authorization rules, 4.2: whoever is named to have let somebody in
/// signs, whatever becomes of whom).
///
/// # Errors
/// [`Refused::Malformed`] when nobody can be who let somebody in.
pub(super) fn required_servers(
    object: &EventObject,
    event: &Event,
    rules: &RoomVersionRules,
) -> Result<BTreeSet<OwnedServerName>, Refused> {
    let mut servers = BTreeSet::new();
    let content = object.object("content");
    let is_member = *event.event_type() == TimelineEventType::RoomMember;
    let membership = event.membership();
    // Whoever was invited by a third-party id may have been by another server than the sender's.
    let is_invite = membership == Some(MembershipState::Invite);
    if !(is_invite && content.is_some_and(|content| content.contains_key("third_party_invite"))) {
        servers.insert(event.sender().server_name().to_owned());
    }
    if rules.signatures.check_event_id_server {
        servers.extend(event.event_id().server_name().map(ToOwned::to_owned));
    }
    if rules.signatures.check_join_authorised_via_users_server
        && is_member
        && content.is_some_and(|content| content.contains_key(AUTHORISED_BY))
    {
        let user = object.content_string(AUTHORISED_BY);
        let user = user.and_then(|user| <&UserId>::try_from(user).ok());
        let nobody = || Malformed(format!("{AUTHORISED_BY} is no user"));
        servers.insert(user.ok_or_else(nobody)?.server_name().to_owned());
    }
    Ok(servers)
}

/// Returns the ids of the keys with which a server signed, as far as we look at them.
pub(super) fn key_ids(object: &EventObject, server: &OwnedServerName) -> Vec<String> {
    let ids = object.signatures(server.as_str()).map(|(key_id, _)| key_id.to_owned());
    let counts = |key_id: &String| key_id.starts_with(ALGORITHM) && key_id != policy::KEY_ID;
    ids.filter(counts).take(SIGNATURES_MAX).collect()
}

/// Checks the signatures of one server.
///
/// # Errors
/// [`Refused::KeyUnknown`], [`Refused::WrongSignature`].
pub(super) fn verify(
    object: &EventObject,
    required: &RequiredKeys,
    signed: &[u8],
    keys: &impl PublicKeys,
) -> Result<(), Refused> {
    let RequiredKeys { server, key_ids, .. } = required;
    let mut is_signed = false;
    for (key_id, text) in object.signatures(server.as_str()) {
        if !key_ids.iter().any(|known| known == key_id) {
            continue;
        }
        // A key that is not known, or was expired by then, is skipped.
        let Some(key) = keys.public_key(server, key_id) else { continue };
        if !signature::is_right(&key, text, signed) {
            let key_id = key_id.to_owned();
            return Err(Refused::WrongSignature { server: server.clone(), key_id });
        }
        is_signed = true;
    }
    if is_signed { Ok(()) } else { Err(Refused::KeyUnknown(server.clone())) }
}
