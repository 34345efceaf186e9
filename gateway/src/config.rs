//! The routes file as typed values: read once, checked at the edge, never wrong afterwards.
//!
//! [`Config::parse`] turns text into a [`Config`] or into faults that name file, line, column, key
//! and mend. Nothing here opens a socket or compiles a table; `routing/table.rs` and `upstream/pools.rs` do
//! that from the values made here.

mod check;
mod error;
mod raw;
mod settings;
mod units;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use error::{CertificateError, ConfigError, Fault};
pub use settings::{
    Balance, Config, Engine, From, HealthConfig, Limits, Listen, Overrides, POOL_WORKERS_MAX,
    PoolConfig, ROUTES_MAX, TlsConfig,
};
pub use units::{Address, IpRange, SlotRange, WEIGHT_MAX, WorkerAddr};

/// The routes file that ships with Colonnade, for `colonnade up` and as a starting point.
pub const BUNDLED_ROUTES: &str = include_str!("../../routes.yaml");

impl Config {
    /// Reads and parses a routes file.
    ///
    /// # Errors
    /// [`ConfigError::Read`] if the file cannot be read, [`ConfigError::Faults`] if it is wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: name.clone(), cause })?;
        Self::parse(&name, &text)
    }

    /// Parses the text of a routes file; `name` is how messages call it.
    ///
    /// # Errors
    /// [`ConfigError::Faults`], with every fault that can be told apart in one reading.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let raw: raw::RawConfig = serde_saphyr::from_str(text)
            .map_err(|error| ConfigError::Faults(vec![error::from_yaml(name, &error)]))?;
        check::check(name, raw)
    }

    /// Parses [`BUNDLED_ROUTES`].
    ///
    /// # Errors
    /// None that a released build can meet: a test parses the same text.
    pub fn bundled() -> Result<Self, ConfigError> {
        Self::parse("routes.yaml (bundled)", BUNDLED_ROUTES)
    }
}
