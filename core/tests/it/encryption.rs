//! End-to-end encryption through the API: keys, cross-signing, messages to devices, key backup.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod backup;
mod cross_signing;
mod keys;
mod sharing;
mod signing;
mod through_sync;
mod to_device;

pub(crate) use cross_signing::bootstrap;

use colonnade_model::ruma::{
    CanonicalJsonObject,
    serde::Base64,
    signatures::{Ed25519KeyPair, KeyPair as _, to_canonical_json_string_for_signing},
};
use colonnade_testkit::{Client, TestServer};
use colonnade_users::accounts::Session;
use serde_json::{Value, json};

/// A key that signs as a client's does.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    pub(crate) public: String,
}

impl Signer {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&document, "1".to_owned()).unwrap();
        let public: Base64 = Base64::new(pair.public_key().to_vec());
        Self { public: public.encode(), pair }
    }

    /// Adds this key's signature under `signer` and `ed25519:<name>`.
    pub(crate) fn sign(&self, object: &mut Value, signer: &str, name: &str) {
        let canonical: CanonicalJsonObject = serde_json::from_value(object.clone()).unwrap();
        let text = to_canonical_json_string_for_signing(&canonical).unwrap();
        let signature = self.pair.sign(text.as_bytes()).base64();
        object["signatures"][signer][format!("ed25519:{name}")] = signature.into();
    }

    /// Returns this key as a cross-signing key of `user_id`.
    fn as_key(&self, user_id: &str, usage: &str) -> Value {
        let key_id = format!("ed25519:{}", self.public);
        json!({ "user_id": user_id, "usage": [usage], "keys": { key_id: self.public } })
    }
}

/// Returns identity keys for a client's device, signed by the device.
fn device_keys(client: &Client, signer: &Signer) -> Value {
    let device_id = &client.device_id;
    let mut keys = json!({
        "user_id": client.user_id,
        "device_id": device_id,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("curve25519:{device_id}"): "3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI",
            format!("ed25519:{device_id}"): signer.public,
        },
    });
    signer.sign(&mut keys, &client.user_id, device_id);
    keys
}

pub(crate) async fn upload_device(client: &Client) -> (Signer, Value) {
    let signer = Signer::new();
    let keys = device_keys(client, &signer);
    client.post(UPLOAD, json!({ "device_keys": keys })).await.ok();
    (signer, keys)
}

/// Returns the client of a server that was started again, on another port.
fn at(server: &TestServer, mut client: Client) -> Client {
    client.url.clone_from(&server.url);
    client
}

/// Looks behind the API: the session of a client.
async fn session(server: &TestServer, client: &Client) -> Session {
    let token = client.token.as_deref().unwrap();
    server.inside().await.services.accounts.authenticate(token).await.unwrap()
}

/// Looks behind the API: how far the streams are.
async fn positions(server: &TestServer) -> colonnade_model::stream::Positions {
    server.inside().await.services.context.streams.positions()
}

/// Returns whose keys changed for `client` since `from`.
async fn changed_since(
    server: &TestServer,
    client: &Client,
    from: &colonnade_model::stream::Positions,
) -> Vec<String> {
    let services = &server.inside().await.services;
    let upto = services.context.streams.positions();
    let user = session(server, client).await.user;
    let changes = services.encryption.device_list_changes(user, from, &upto).await.unwrap();
    changes.changed.iter().map(|(name, _)| name.to_string()).collect()
}

const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";
