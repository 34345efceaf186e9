//! Uploading device keys, one-time keys and fallback keys.
//!
//! Source: Matrix v1.19, client-server, `POST /keys/upload`.

use std::collections::BTreeMap;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonValue, OneTimeKeyAlgorithm, OwnedOneTimeKeyId, UInt,
        api::client::keys::upload_keys::v3::Request,
        encryption::{DeviceKeys, OneTimeKey},
        serde::Raw,
    },
};
use colonnade_rooms::Result;
use colonnade_storage::{
    delivery::to_device,
    keys::{
        device_lists,
        encryption::{
            device_keys,
            one_time_keys::{self, Uploaded},
        },
    },
    users::devices,
};

use serde::Deserialize;

use super::{Encryption, signed};

/// One-time keys in one upload. Clients keep 50 to 100 of them; more only fills the disk.
const KEYS_MAX: usize = 1_000;
/// Bytes of one key object: a public key and a signature or two.
const KEY_BYTES_MAX: usize = 8 * 1024;
/// Bytes of the identity keys of a device, signatures included.
pub(super) const DEVICE_KEYS_BYTES_MAX: usize = 32 * 1024;

/// The two shapes of a one-time key; what the strings say is for the clients to judge.
#[derive(Deserialize)]
#[serde(untagged)]
enum Shape {
    Plain(#[expect(dead_code, reason = "only its type matters")] String),
    Signed {
        #[expect(dead_code, reason = "only its type matters")]
        key: String,
        #[expect(dead_code, reason = "only its type matters")]
        signatures: serde_json::Map<String, serde_json::Value>,
    },
}

impl Encryption {
    /// Stores what a device uploads and returns how many unclaimed one-time keys it has now.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when the device keys are somebody else's, `M_BAD_JSON` when they are
    /// malformed, `M_FORBIDDEN` or `M_TOO_LARGE` when the device keeps as many as it may, `M_UNKNOWN` when
    /// a one-time key comes again with another content, `M_UNKNOWN_TOKEN` when the device was logged out
    /// meanwhile.
    pub async fn upload(
        &self,
        session: &Session,
        request: Request,
    ) -> Result<BTreeMap<OneTimeKeyAlgorithm, UInt>> {
        let Request { device_keys, one_time_keys, fallback_keys } = request;
        let identity = device_keys.map(|keys| own_device_keys(session, &keys)).transpose()?;
        let fresh = plain_keys(one_time_keys)?;
        let fallback = plain_keys(fallback_keys)?;
        if identity.is_some() || !fresh.is_empty() || !fallback.is_empty() {
            self.store(session, identity, fresh, fallback).await?;
        }
        self.one_time_key_counts(session.device).await
    }

    async fn store(
        &self,
        session: &Session,
        identity: Option<device_keys::DeviceKeys>,
        fresh: Vec<one_time_keys::OneTimeKey>,
        fallback: Vec<one_time_keys::OneTimeKey>,
    ) -> Result<()> {
        let (user, device) = (session.user, session.device);
        let name = [session.device_id.to_string()];
        let quota = self.context.settings.limits.one_time_keys();
        let stored = self.context.db.write(move |tx| {
            Box::pin(async move {
                // Logged out since it was authenticated: its keys would be there for ever.
                if !devices::is_there(tx, device).await? {
                    return Ok(None);
                }
                // First, since it is the one that can refuse, and then nothing may be stored.
                let uploaded = one_time_keys::put(tx, device, fresh, &quota).await?;
                if uploaded != Uploaded::Stored {
                    return Ok(Some(uploaded));
                }
                one_time_keys::put_fallback(tx, device, fallback).await?;
                let changed = match identity {
                    Some(keys) => device_keys::put(tx, keys).await?,
                    None => false,
                };
                if changed {
                    device_lists::changed(tx, user, &name).await?;
                }
                to_device::forget(tx, device).await?;
                Ok(Some(uploaded))
            })
        });
        let stored = stored.await?;
        self.counts.forget(&[device]);
        match stored {
            Some(Uploaded::Stored) => Ok(()),
            None => Err(MatrixError::unknown_token("this device was logged out").into()),
            Some(Uploaded::Differs(key_id)) => Err(MatrixError::unknown(format!(
                "the one-time key {key_id} exists already with another content"
            ))
            .into()),
        }
    }
}

/// Checks that device keys have the right shape and belong to the device that uploads them.
fn own_device_keys(
    session: &Session,
    raw: &Raw<DeviceKeys>,
) -> Result<device_keys::DeviceKeys, MatrixError> {
    if raw.json().get().len() > DEVICE_KEYS_BYTES_MAX {
        return Err(MatrixError::too_large("the device keys are too large"));
    }
    let keys = raw.deserialize().map_err(|error| {
        MatrixError::bad_json(format!("the device keys are malformed: {error}"))
    })?;
    if keys.user_id != session.user_id || keys.device_id != session.device_id {
        return Err(MatrixError::invalid_param(
            "the device keys name another user or device than the one that uploads them",
        ));
    }
    let mut object = signed::object(raw.json())?;
    object.remove("unsigned");
    signed::keep_signatures_by(&mut object, session.user_id.as_str());
    Ok(device_keys::DeviceKeys {
        user: session.user,
        device_id: session.device_id.to_string(),
        device: session.device,
        keys: signed::text(object),
    })
}

/// Turns keys into rows: canonical JSON, so that the same key is recognised when it comes again.
fn plain_keys(
    keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
) -> Result<Vec<one_time_keys::OneTimeKey>, MatrixError> {
    if keys.len() > KEYS_MAX {
        return Err(MatrixError::invalid_param(format!("more than {KEYS_MAX} keys at once")));
    }
    let rows = keys.into_iter().map(|(key_id, raw)| {
        let text = raw.json().get();
        if text.len() > KEY_BYTES_MAX {
            return Err(MatrixError::too_large(format!("the key {key_id} is too large")));
        }
        let malformed =
            |why: String| MatrixError::bad_json(format!("the key {key_id} is malformed: {why}"));
        let _: Shape = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let key: CanonicalJsonValue =
            serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        Ok(one_time_keys::OneTimeKey {
            algorithm: key_id.algorithm().to_string(),
            key_id: key_id.key_name().to_string(),
            key: key.to_string(),
        })
    });
    rows.collect()
}
