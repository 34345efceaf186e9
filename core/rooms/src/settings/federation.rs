//! What the operator decides about other servers: which of them, how they are found and trusted, and which
//! addresses are asked at all.

use std::{collections::BTreeMap, path::PathBuf};

use colonnade_model::ruma::OwnedServerName;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Other servers.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Federation {
    /// Whether rooms are shared with other servers. `None`: unless this one is named `localhost`, where no
    /// other could find it.
    pub enabled: Option<bool>,
    /// Patterns of the servers that are spoken with, as in `m.room.server_acl`: `*` stands for any text, `?`
    /// for one character; ports do not count, nor does case. Empty: all.
    pub allow: Vec<String>,
    /// Patterns of the servers that are not, whatever `allow` says.
    pub deny: Vec<String>,
    /// Files of certificate authorities that are trusted besides those of the system, PEM.
    pub trusted_ca_files: Vec<PathBuf>,
    /// Where servers are reached, `host:port` by their names: nothing else is looked up for them.
    pub overrides: BTreeMap<OwnedServerName, OwnedServerName>,
    /// Servers that are asked for the keys of others which cannot be asked themselves.
    pub key_perspectives: Vec<OwnedServerName>,
    /// Where the gateway of `up` listens for other servers, encrypted.
    pub listen: Vec<FederationListener>,
    /// What `/.well-known/matrix/server` says, `matrix.example.org:443` say; `None`: there is none.
    pub well_known_server: Option<OwnedServerName>,
    /// What `/.well-known/matrix/policy_server` says is the key of the policy server of this name, ed25519 in
    /// unpadded base64; `None`: there is none.
    pub well_known_policy_key: Option<String>,
    /// The first pause after a server could not be reached, in milliseconds. Each further one is twice as
    /// long.
    pub retry_min_ms: u64,
    /// The longest, in milliseconds.
    pub retry_max_ms: u64,
}

impl Default for Federation {
    fn default() -> Self {
        Self {
            enabled: None,
            allow: Vec::new(),
            deny: Vec::new(),
            trusted_ca_files: Vec::new(),
            overrides: BTreeMap::new(),
            key_perspectives: Vec::new(),
            listen: Vec::new(),
            well_known_server: None,
            well_known_policy_key: None,
            // A restart takes less.
            retry_min_ms: 60 * 1_000,
            retry_max_ms: 24 * 60 * 60 * 1_000,
        }
    }
}

/// An address for other servers, with its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FederationListener {
    /// The address and port, `0.0.0.0:8448` say.
    pub bind: std::net::SocketAddr,
    /// The certificate with its chain, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Requests that this server makes itself.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outgoing {
    /// Ranges that may be connected to although they are private, of this machine or otherwise not of the
    /// public internet.
    pub allowed_ranges: Vec<IpNet>,
}
