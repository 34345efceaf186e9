//! What a server publishes of its keys: read, and checked against its own signature. Pure.
//!
//! Source: Matrix v1.19, server-server, "Publishing Keys".

use colonnade_model::ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
};
use colonnade_storage::federation::server_keys::ServerKey;

/// Keys of one server that are taken: servers have one, and a few of before.
const KEYS_MAX: usize = 100;
/// How long a key is taken to be valid at most without asking again, in milliseconds; the specification's
/// seven days.
const VALID_MAX_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// The one kind of keys there is.
const KIND: &str = "ed25519:";

/// What a server publishes of its keys.
#[derive(Debug, Clone)]
pub struct Published {
    /// The keys it signs with, and those it signed with before.
    pub keys: Vec<ServerKey>,
    /// Until when those it signs with are valid, in milliseconds since the Unix epoch.
    pub valid_until_ms: i64,
}

/// Reads what `server` published, which it has to have signed with one of the keys it signs with.
///
/// # Errors
/// What is wrong with it.
pub fn read_published(
    object: &CanonicalJsonObject,
    server: &ServerName,
    now_ms: i64,
) -> Result<Published, &'static str> {
    if text(object, "server_name") != Some(server.as_str()) {
        return Err("it is of another server");
    }
    let valid_until_ms = number(object, "valid_until_ts").ok_or("valid_until_ts is missing")?;
    let valid_until_ms = valid_until_ms.min(now_ms.saturating_add(VALID_MAX_MS));
    let Some(CanonicalJsonValue::Object(current)) = object.get("verify_keys") else {
        return Err("verify_keys is missing");
    };
    let mut keys = Vec::new();
    for (key_id, key) in current.iter().filter(|(key_id, _)| key_id.starts_with(KIND)) {
        let public_key = public(key).ok_or("a key cannot be read")?;
        keys.push(ServerKey { key_id: key_id.clone(), public_key, valid_until_ms });
    }
    require_signature(object, server, &keys)?;
    if let Some(CanonicalJsonValue::Object(old)) = object.get("old_verify_keys") {
        for (key_id, key) in old.iter().filter(|(key_id, _)| key_id.starts_with(KIND)) {
            let CanonicalJsonValue::Object(members) = key else { continue };
            // One that cannot be read proves nothing, and spoils nothing.
            let (Some(public_key), Some(expired)) = (public(key), number(members, "expired_ts"))
            else {
                continue;
            };
            if keys.iter().all(|known| known.key_id != *key_id) {
                let key_id = key_id.clone();
                keys.push(ServerKey { key_id, public_key, valid_until_ms: expired });
            }
        }
    }
    if keys.len() > KEYS_MAX {
        return Err("there are too many keys");
    }
    Ok(Published { keys, valid_until_ms })
}

/// Makes sure that one of `keys` signed the object in a server's name.
pub(super) fn require_signature(
    object: &CanonicalJsonObject,
    server: &ServerName,
    keys: &[ServerKey],
) -> Result<(), &'static str> {
    let Some(CanonicalJsonValue::Object(signatures)) = object.get("signatures") else {
        return Err("it is not signed");
    };
    let Some(CanonicalJsonValue::Object(signatures)) = signatures.get(server.as_str()) else {
        return Err("it is not signed by its server");
    };
    let bytes = to_canonical_json_string_for_signing(object).map_err(|_| "it cannot be signed")?;
    let is_right = |key: &ServerKey| {
        let Some(signature) = text(signatures, &key.key_id) else { return false };
        let Ok(signature) = Base64::<Standard>::parse(signature) else { return false };
        let kind = SigningKeyAlgorithm::Ed25519;
        let (key, signature) = (key.public_key.as_slice(), signature.as_bytes());
        verify_canonical_json_bytes(&kind, key, signature, bytes.as_bytes()).is_ok()
    };
    match keys.iter().any(is_right) {
        true => Ok(()),
        false => Err("none of its signatures is right"),
    }
}

fn text<'a>(object: &'a CanonicalJsonObject, key: &str) -> Option<&'a str> {
    match object.get(key)? {
        CanonicalJsonValue::String(text) => Some(text),
        _ => None,
    }
}

fn number(object: &CanonicalJsonObject, key: &str) -> Option<i64> {
    match object.get(key)? {
        CanonicalJsonValue::Integer(number) => Some((*number).into()),
        _ => None,
    }
}

/// Returns the public half of a key: 32 bytes.
fn public(key: &CanonicalJsonValue) -> Option<Vec<u8>> {
    let CanonicalJsonValue::Object(members) = key else { return None };
    let bytes = Base64::<Standard>::parse(text(members, "key")?).ok()?.into_inner();
    (bytes.len() == 32).then_some(bytes)
}
