//! Asking another server for the devices of its users and their keys.
//!
//! Source: Matrix v1.19, server-server, "Device Management", "End-to-End Encryption".

use std::{collections::BTreeMap, time::Duration};

use colonnade_model::ruma::{OneTimeKeyAlgorithm, OwnedDeviceId, OwnedUserId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use super::{Messaging, MessagingError, escaped};
use crate::transport::Request;

/// A user's devices, whole, as his server has them.
#[derive(Debug, Deserialize)]
pub struct DeviceListSnapshot {
    /// The last change that is in it.
    pub stream_id: i64,
    /// The devices.
    #[serde(default)]
    pub devices: Vec<DeviceSnapshot>,
    /// The master key.
    #[serde(default)]
    pub master_key: Option<Box<RawValue>>,
    /// The self-signing key.
    #[serde(default)]
    pub self_signing_key: Option<Box<RawValue>>,
}

/// A device of a snapshot.
#[derive(Debug, Deserialize)]
pub struct DeviceSnapshot {
    /// Its name among the user's devices.
    pub device_id: OwnedDeviceId,
    /// What people call it.
    #[serde(default)]
    pub device_display_name: Option<String>,
    /// Its identity keys.
    #[serde(default)]
    pub keys: Option<Box<RawValue>>,
}

/// Keys by user.
pub type KeysByUser = BTreeMap<OwnedUserId, Box<RawValue>>;
/// Keys by user and device.
pub type KeysByDevice = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Box<RawValue>>>;
/// Which keys are claimed.
pub type Claims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;

/// What a server answers that is asked for keys.
#[derive(Debug, Default, Deserialize)]
pub struct QueriedKeys {
    /// Of devices.
    #[serde(default)]
    pub device_keys: KeysByDevice,
    /// Master keys.
    #[serde(default)]
    pub master_keys: KeysByUser,
    /// Self-signing keys.
    #[serde(default)]
    pub self_signing_keys: KeysByUser,
}

/// What a server answers where keys are claimed.
#[derive(Debug, Deserialize)]
struct ClaimedKeys {
    #[serde(default)]
    one_time_keys: KeysByDevice,
}

impl Messaging {
    /// Asks a user's server for all of his devices.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn device_list(
        &self,
        user: &UserId,
        within: Duration,
    ) -> Result<DeviceListSnapshot, MessagingError> {
        let address = format!("/_matrix/federation/v1/user/devices/{}", escaped(user.as_str()));
        let request = Request::get(address).within(within);
        Ok(self.transport.send(user.server_name(), request).await?.json().await?)
    }

    /// Asks a server for keys of its users; of no devices means of all.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn query_keys(
        &self,
        server: &ServerName,
        wanted: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
        within: Duration,
    ) -> Result<QueriedKeys, MessagingError> {
        let body = json!({ "device_keys": wanted });
        let request = Request::post("/_matrix/federation/v1/user/keys/query", &body)?;
        Ok(self.transport.send(server, request.within(within)).await?.json().await?)
    }

    /// Claims one-time keys of a server's users.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn claim_keys(
        &self,
        server: &ServerName,
        wanted: &Claims,
        within: Duration,
    ) -> Result<KeysByDevice, MessagingError> {
        let body = json!({ "one_time_keys": wanted });
        let request = Request::post("/_matrix/federation/v1/user/keys/claim", &body)?;
        let answer = self.transport.send(server, request.within(within)).await?;
        let claimed: ClaimedKeys = answer.json().await?;
        Ok(claimed.one_time_keys)
    }
}
