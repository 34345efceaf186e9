//! The configuration: `colonnade.yaml`, then the environment, then flags, each replacing what came
//! before. The only place of the homeserver that reads settings. A key nobody knows is an error
//! that names its place and the nearest valid key; nothing is ignored in silence.
//!
//! `file.rs` lists the keys, `layers.rs` puts the sources on top of each other, `problem.rs` says
//! what is wrong, `secrets.rs` whether others may read secrets, `template.yaml` is the commented file a first
//! start writes.

mod file;
mod layers;
mod problem;
mod secrets;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use colonnade_model::ruma::OwnedServerName;
use colonnade_services::Settings;
pub use colonnade_storage::Location;
use ipnet::IpNet;

pub use file::{Format, Level};
pub use layers::{Setting, Source, Sources};
pub use problem::{ConfigError, Problem};
pub use secrets::Readable;

use crate::private;

/// How the file is called unless somebody names another.
pub const FILE_DEFAULT: &str = "colonnade.yaml";
/// What every environment variable of ours begins with.
pub const VARIABLE_PREFIX: &str = "COLONNADE_";

/// The text of the file a first start writes.
const TEMPLATE: &str = include_str!("config/template.yaml");

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
    /// Reads every source and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong, each with its place and its mend.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let file = layers::merge(sources)?;
        let folder = std::path::absolute(&sources.path).unwrap_or_else(|_| sources.path.clone());
        let folder = folder.parent().unwrap_or(Path::new("."));
        let config = file.checked(folder)?;
        Ok(Self { readable: Readable::find(&sources.path), ..config })
    }

    /// Says whether nobody but programs on this machine can reach us, and the name is `localhost`:
    /// only then anybody may register unless the configuration says otherwise.
    pub fn is_local_trial(&self) -> bool {
        self.server_name.as_str() == "localhost" && self.listen.iter().all(is_loopback)
    }

    /// Says whether anybody may register.
    pub fn registration_is_open(&self) -> bool {
        self.settings.registration.open == Some(true)
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Writes the commented configuration a first start leaves behind, with the values it was started
/// with. Never overwrites a file.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_first(path: &Path, config: &Config) -> std::io::Result<()> {
    private::write_new(path, &first_text(path, config))
}

/// The template with the values of this start.
fn first_text(path: &Path, config: &Config) -> String {
    let listen: Vec<String> = config.listen.iter().map(|at| format!("\"{at}\"")).collect();
    let here = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let here = here.parent().unwrap_or(Path::new("/"));
    let data_dir = config.data_dir.strip_prefix(here).unwrap_or(&config.data_dir);
    let quoted = serde_json::Value::from(data_dir.to_string_lossy()).to_string();
    TEMPLATE
        .replace("server_name: localhost", &format!("server_name: {}", config.server_name))
        .replace("data_dir: data", &format!("data_dir: {quoted}"))
        .replace("listen: [\"127.0.0.1:8008\"]", &format!("listen: [{}]", listen.join(", ")))
}
