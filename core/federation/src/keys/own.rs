//! This server's own keys, as it publishes them.

use colonnade_model::ruma::{
    CanonicalJsonObject, canonical_json,
    serde::{Base64, base64::Standard},
    signatures::sign_json,
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::federation::signing_keys::{self, RetiredKey};
use serde_json::{Map, Value, json};

use super::{
    KeyRing,
    known::{Key, ServerKeys},
};

/// How long others take what is published for right without asking again, in milliseconds: so late they learn
/// that a key is not used any more.
const VALID_MS: i64 = 24 * 60 * 60 * 1_000;

impl KeyRing {
    /// Returns what this server publishes of its keys, signed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn own_document(&self) -> Result<CanonicalJsonObject> {
        let context = &self.inner.context;
        let failed = |error| Error::internal("publish the signing keys", error);
        let current = context.signing_key.current();
        let key_id = format!("ed25519:{}", current.version());
        let public: Base64<Standard, _> = Base64::new(current.public_key());
        let mut old = Map::new();
        for RetiredKey { key_id, public_key, expired_ms } in
            signing_keys::retired(&context.db).await?
        {
            let public: Base64<Standard, _> = Base64::new(public_key);
            old.insert(key_id, json!({ "key": public.encode(), "expired_ts": expired_ms }));
        }
        old.remove(&key_id);
        let document = json!({
            "server_name": context.server_name,
            "valid_until_ts": context.now_ms().saturating_add(VALID_MS),
            "verify_keys": { key_id: { "key": public.encode() } },
            "old_verify_keys": Value::Object(old),
        });
        let mut document = canonical_json::try_from_json_map(match document {
            Value::Object(document) => document,
            _ => Map::new(),
        })
        .map_err(failed)?;
        self.sign(&mut document)?;
        Ok(document)
    }

    /// Adds this server's signature.
    pub(super) fn sign(&self, object: &mut CanonicalJsonObject) -> Result<()> {
        let context = &self.inner.context;
        sign_json(context.server_name.as_str(), &*context.signing_key.current(), object)
            .map_err(|error| Error::internal("sign what is published", error))
    }

    /// Returns the keys this server signs and signed with.
    pub(super) async fn own_keys(&self) -> Result<ServerKeys> {
        let context = &self.inner.context;
        let mut keys = ServerKeys::new();
        for RetiredKey { key_id, public_key, expired_ms } in
            signing_keys::retired(&context.db).await?
        {
            keys.insert(
                key_id,
                Key { public: Base64::new(public_key), valid_until_ms: expired_ms },
            );
        }
        let current = context.signing_key.current();
        let key =
            Key { public: Base64::new(current.public_key().to_vec()), valid_until_ms: i64::MAX };
        keys.insert(format!("ed25519:{}", current.version()), key);
        Ok(keys)
    }
}
