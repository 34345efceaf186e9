//! What the configuration says once it is checked.

use std::{net::SocketAddr, path::PathBuf};

use colonnade_model::ruma::OwnedServerName;
use colonnade_rooms::Settings;
use colonnade_storage::Location;
use ipnet::IpNet;
use serde::Deserialize;

use super::secrets::Readable;

/// Everything an operator can decide, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name behind the colon in our users' ids.
    pub server_name: OwnedServerName,
    /// The folder of the signing key, the SQLite database and the media; absolute.
    pub data_dir: PathBuf,
    /// Where the gateway of `up` listens.
    pub listen: Vec<SocketAddr>,
    /// Whose word about a client's address counts, besides that of programs on this machine.
    pub trusted_proxies: Vec<IpNet>,
    /// The routes file, if there is one; otherwise the routes that ship with the program.
    pub routes: Option<PathBuf>,
    /// The database.
    pub database: Location,
    /// The Redis of a deployment of many processes.
    pub redis: Option<String>,
    /// Where a worker serves `/metrics`, `/health` and `/ready`; `None` is nowhere.
    pub admin: Option<SocketAddr>,
    /// Names by which both may be asked, besides those of this machine and the addresses they listen on.
    pub admin_hosts: Vec<String>,
    /// Where the gateway of `up` serves its own health, metrics and table; `None` is nowhere.
    pub gateway_admin: Option<SocketAddr>,
    /// What is logged, and how.
    pub logging: Logging,
    /// Where spans go.
    pub tracing: Tracing,
    /// What the operator decided about the services.
    pub settings: Settings,
    /// That others may read the file, where it holds secrets.
    pub readable: Option<Readable>,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
pub struct Logging {
    /// The least important lines that are written.
    pub level: Level,
    /// Text or JSON.
    pub format: Format,
    /// Exceptions by module, in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: Option<String>,
}

/// Where spans go.
#[derive(Debug, Clone)]
pub struct Tracing {
    /// An OpenTelemetry collector that speaks OTLP over HTTP, `http://127.0.0.1:4318`.
    pub otlp_endpoint: Option<String>,
    /// Which share of the requests is traced, 0 to 1.
    pub sample_ratio: f64,
}

impl Config {
    /// Says whether nobody but programs on this machine can reach us, and the name is `localhost`:
    /// only then anybody may register unless the configuration says otherwise.
    pub fn is_local_trial(&self) -> bool {
        let encrypted = self.settings.federation.listen.iter().map(|listener| &listener.bind);
        self.server_name.as_str() == "localhost"
            && self.listen.iter().chain(encrypted).all(is_loopback)
    }

    /// Says whether anybody may register.
    pub fn registration_is_open(&self) -> bool {
        self.settings.registration.open == Some(true)
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text with colours on a terminal, text without them elsewhere.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}
