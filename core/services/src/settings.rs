//! What the operator decides about the services. Read from `colonnade.yaml` by the assembly; every
//! value has a default, and a key that is not listed here is an error there.

use colonnade_model::ruma::RoomVersionId;
use serde::Deserialize;

/// The settings of all services.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Who may register.
    pub registration: Registration,
    /// New rooms.
    pub rooms: Rooms,
    /// Uploaded files.
    pub media: Media,
    /// Limits on how often something may be done.
    pub rate_limits: RateLimits,
}

/// Who may register.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Anybody may, without proof (`m.login.dummy`). `None`: only on loopback as `localhost`.
    pub open: Option<bool>,
    /// Whoever knows one of these tokens may (`m.login.registration_token`).
    pub tokens: Vec<String>,
    /// Lets an administrator's script register users at `/_synapse/admin/v1/register`.
    pub shared_secret: Option<String>,
}

/// New rooms.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// The version of rooms created without a wish for one.
    pub default_version: RoomVersionId,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { default_version: colonnade_model::versions::DEFAULT }
    }
}

/// Uploaded files.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// The largest upload, in bytes.
    pub upload_bytes_max: u64,
}

impl Default for Media {
    fn default() -> Self {
        Self { upload_bytes_max: 50 * 1024 * 1024 }
    }
}

/// Limits on how often something may be done; a token bucket each.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// False switches all of them off, for tests and load tests.
    pub enabled: bool,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { enabled: true }
    }
}
