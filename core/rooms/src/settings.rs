//! What the operator decides about the services. Read from `colonnade.yaml` by the assembly; every
//! value has a default, and a key that is not listed here is an error there.

mod federation;
mod owner_limits;
mod registration_token;
mod support;

use colonnade_model::ruma::RoomVersionId;
pub use registration_token::RegistrationToken;
use serde::{Deserialize, Serialize};

pub use federation::{Federation, FederationListener, Outgoing};
pub use owner_limits::OwnerLimits;
pub use support::{Support, SupportContact};

/// The settings of all services.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where clients reach this server, `https://matrix.example.org` say. Told to clients that look at
    /// `/.well-known/matrix/client`; `None` tells them nothing.
    pub public_base_url: Option<String>,
    /// Who may register.
    pub registration: Registration,
    /// Sessions of devices.
    pub sessions: Sessions,
    /// Finding users by name.
    pub user_directory: UserDirectory,
    /// What clients wait for.
    pub sync: Sync,
    /// Whom people turn to.
    pub support: Support,
    /// Calls.
    pub voip: Voip,
    /// New rooms.
    pub rooms: Rooms,
    /// Uploaded files.
    pub media: Media,
    /// Limits on how often something may be done.
    pub rate_limits: RateLimits,
    /// What one owner may keep.
    pub limits: OwnerLimits,
    /// Requests on their way in, and answers on their way out.
    pub requests: Requests,
    /// Other servers.
    pub federation: Federation,
    /// Requests that this server makes itself.
    pub outgoing: Outgoing,
    /// The assembly runs a trial server, which only programs on this machine reach; no key of the file.
    #[serde(skip)]
    pub is_local_trial: bool,
}

/// Who may register, and what a new account begins with.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    /// Anybody may, without proof (`m.login.dummy`). `None`: only where the assembly switches it
    /// on, which it does when it listens on loopback as `localhost`.
    pub open: Option<bool>,
    /// Whoever knows one of these tokens may (`m.login.registration_token`).
    pub tokens: Vec<RegistrationToken>,
    /// Lets an administrator's script register users at `/_synapse/admin/v1/register`.
    pub shared_secret: Option<String>,
    /// Anybody may be a guest, who needs no password and may do little. `None`: where anybody may register,
    /// who may do more.
    pub guests: Option<bool>,
    /// A new account has its localpart as display name.
    pub localpart_as_displayname: bool,
}

impl Registration {
    /// Tells whether anybody may be a guest.
    pub fn has_guests(&self) -> bool {
        self.guests.unwrap_or(self.open == Some(true))
    }
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            open: None,
            tokens: Vec::new(),
            shared_secret: None,
            guests: None,
            localpart_as_displayname: true,
        }
    }
}

/// Finding users by name.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserDirectory {
    /// Everybody finds everybody; otherwise only who shares a room, or is in a public one.
    pub search_all_users: bool,
}

/// What clients wait for.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sync {
    /// How long it waits for company, in milliseconds, that somebody read or types: one answer carries what several
    /// people do at about the same time. 0 wakes everybody at once by each of it.
    pub gather_ms: u64,
}

impl Sync {
    /// The longest that anything waits for company.
    pub const GATHER_MS_MAX: u64 = 1_000;
}

impl Default for Sync {
    fn default() -> Self {
        Self { gather_ms: 200 }
    }
}

/// Calls: the TURN server they go through where a direct way is barred.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Voip {
    /// Its addresses, `turn:turn.example.org?transport=udp` say; none: there is no TURN server.
    pub turn_uris: Vec<String>,
    /// The secret shared with it (`static-auth-secret` of coturn).
    pub turn_shared_secret: Option<String>,
    /// The user name, for a TURN server without a shared secret.
    pub turn_username: Option<String>,
    /// The password, for a TURN server without a shared secret.
    pub turn_password: Option<String>,
    /// How long credentials can be used, in seconds.
    pub turn_lifetime_s: u64,
}

impl Default for Voip {
    fn default() -> Self {
        Self {
            turn_uris: Vec::new(),
            turn_shared_secret: None,
            turn_username: None,
            turn_password: None,
            turn_lifetime_s: 24 * 60 * 60,
        }
    }
}

/// New rooms.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rooms {
    /// The version of rooms whose creator names none.
    pub default_version: RoomVersionId,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { default_version: colonnade_model::versions::DEFAULT }
    }
}

/// Uploaded files.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Media {
    /// The largest upload, in bytes.
    pub upload_bytes_max: u64,
    /// Media uploaded from this instant on (milliseconds since the Unix epoch) is served only to
    /// who is logged in, whatever the old endpoints, which ask for no token, are asked for. 0: they
    /// serve nothing. `None`: the first start of a new deployment, noted in its database; those that
    /// are older than this rule serve everything.
    pub unauthenticated_until_ms: Option<i64>,
    /// The largest file that is fetched from another server, in bytes.
    pub remote_file_bytes_max: u64,
    /// How many bytes of other servers' files are kept; those not asked for the longest go first.
    pub remote_bytes_max: u64,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            upload_bytes_max: 50 * 1024 * 1024,
            unauthenticated_until_ms: None,
            // Twice what most servers let their users upload.
            remote_file_bytes_max: 100 * 1024 * 1024,
            remote_bytes_max: 10 * 1024 * 1024 * 1024,
        }
    }
}

/// Sessions of devices.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// How long the access token of a client that can refresh it lasts, in milliseconds.
    pub access_token_ms: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { access_token_ms: 60 * 60 * 1_000 }
    }
}

/// Limits on how often something may be done: a token bucket for each class of requests, per user
/// or per address.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// False switches all of them off, for tests and load tests.
    pub enabled: bool,
    /// Failing to log in, per address, and per account from addresses that were not seen before.
    pub login: Rate,
    /// Registering, per address.
    pub registration: Rate,
    /// Sending events and to-device messages, per user.
    pub message: Rate,
    /// Joining, inviting, knocking and creating rooms, per user.
    pub join: Rate,
    /// Uploading files, per user.
    pub media: Rate,
    /// One-time keys claimed from one device, per claiming user.
    pub claim: Rate,
    /// Everything else that writes or searches, per user.
    pub other: Rate,
    /// Whatever is asked without a valid access token, per address.
    pub stranger: Rate,
    /// What another server asks, per server.
    pub federation: Rate,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            enabled: true,
            // A person mistypes a few times; a dictionary needs thousands.
            login: Rate { per_second: 0.2, burst: 10 },
            // Each takes two requests; a class of pupils sits behind one address.
            registration: Rate { per_second: 0.2, burst: 20 },
            // Faster than anybody types, with room for a client that catches up after a tunnel.
            message: Rate { per_second: 10.0, burst: 100 },
            join: Rate { per_second: 2.0, burst: 30 },
            media: Rate { per_second: 2.0, burst: 30 },
            // A session with a device needs one key and lasts for weeks; somebody has a dozen
            // devices, and each may begin anew. A device has 50 to 100 keys at a time.
            claim: Rate { per_second: 0.02, burst: 20 },
            other: Rate { per_second: 20.0, burst: 200 },
            // A thousand people behind one address may open their clients in the same minute; answering
            // so many costs a tenth of a core.
            stranger: Rate { per_second: 100.0, burst: 1_000 },
            // One transaction at a time is in flight from each, of up to 50 events; joins of many of its users
            // ask for more at once.
            federation: Rate { per_second: 50.0, burst: 500 },
        }
    }
}

/// Requests on their way in, and answers on their way out.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Requests {
    /// How many bytes of request bodies a process holds in memory at once.
    pub bodies_bytes_max: u64,
    /// How many bytes of answers a process holds in memory at once, or sets aside to make them.
    pub answers_bytes_max: u64,
}

impl Requests {
    /// The least that makes sense: an ordinary body of the largest kind is a quarter of it, which is what
    /// one user may hold.
    pub const BODIES_BYTES_MIN: u64 = 16 * 1024 * 1024;
    /// The least with which a user has two pages at a time.
    pub const ANSWERS_BYTES_MIN: u64 = 32 * 1024 * 1024;
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            // One user may hold a quarter: exactly the largest upload of keys.
            bodies_bytes_max: 128 * 1024 * 1024,
            // One user may hold a quarter: eight pages, or four first syncs, or some of both. All together
            // make 16 pages and read 32 first syncs at a time.
            answers_bytes_max: 128 * 1024 * 1024,
        }
    }
}

/// How often something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// In the long run, per second.
    pub per_second: f64,
    /// At once, after a pause.
    pub burst: u32,
}
