//! The configuration: `colonnade.yaml`, then the environment, then flags, each replacing what came
//! before. The only place of the homeserver that reads settings. A key nobody knows is an error
//! that names its place and the nearest valid key; nothing is ignored in silence.
//!
//! `file.rs` lists the keys, `layers.rs` puts the sources on top of each other, `problem.rs` says
//! what is wrong, `secrets.rs` whether others may read secrets, `template.yaml` is the commented file a first
//! start writes.

mod federation;
mod file;
mod layers;
mod problem;
mod secrets;
mod setting;
#[cfg(test)]
mod tests;
mod values;

use std::path::Path;

pub use colonnade_storage::Location;

pub use layers::Sources;
pub use problem::{ConfigError, Problem};
pub use secrets::Readable;
pub use setting::{Setting, Source, VARIABLE_PREFIX};
pub use values::{Config, Format, Level, Logging, Tracing};

use crate::secret_file;

/// How the file is called unless somebody names another.
pub const FILE_DEFAULT: &str = "colonnade.yaml";

/// The text of the file a first start writes.
const TEMPLATE: &str = include_str!("config/template.yaml");

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
}

/// Writes the commented configuration a first start leaves behind, with the values it was started
/// with. Never overwrites a file.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn write_first(path: &Path, config: &Config) -> std::io::Result<()> {
    secret_file::write_new(path, &first_text(path, config))
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
