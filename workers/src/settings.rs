//! Flags of every command, and the configuration they lead to.

use std::path::PathBuf;

use clap::Args;
use colonnade_core::config::{Config, FILE_DEFAULT, Setting, Source, Sources};

use crate::failure::Failure;

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// The configuration file
    #[arg(long, short, global = true, env = "COLONNADE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The name in the ids of your users, @alice:NAME; it cannot change once there are users
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,
    /// The folder of keys, database and media
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) data_dir: Option<String>,
    /// Where clients connect; several with commas between them
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<String>,
    /// error, warn, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// Any key of colonnade.yaml, for example --set logging.format=json
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// What `up` says of the database and Redis.
    #[arg(skip)]
    pub(crate) places: Vec<(&'static str, &'static str, String)>,
}

impl Settings {
    /// Returns the path of the configuration file, existing or not.
    pub(crate) fn path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(|| FILE_DEFAULT.into())
    }

    /// Reads the configuration; a file that was named must exist.
    pub(crate) fn load(&self) -> Result<Config, Failure> {
        let path = self.path();
        if self.config.is_some() && !path.exists() {
            return Err(Failure::Usage(format!(
                "there is no file {}; `colonnade up` writes one at its first start",
                path.display()
            )));
        }
        self.load_or_default()
    }

    /// Reads the configuration; a missing file stands for the defaults.
    pub(crate) fn load_or_default(&self) -> Result<Config, Failure> {
        let sources =
            Sources { path: self.path(), environment: environment(), flags: self.flags()? };
        Ok(Config::load(&sources)?)
    }

    /// The flags by which another command of ours gets the same settings.
    pub(crate) fn as_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--config".to_owned(), self.path().display().to_string()];
        let named = [
            ("--server-name", &self.server_name),
            ("--data-dir", &self.data_dir),
            ("--listen", &self.listen),
            ("--log", &self.log),
        ];
        for (flag, value) in named {
            arguments.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
        }
        arguments.extend(self.set.iter().flat_map(|pair| ["--set".to_owned(), pair.clone()]));
        arguments
    }

    /// The variables by which it gets what no list of processes should show.
    pub(crate) fn as_environment(&self) -> Vec<(String, String)> {
        let variable = |key: &str| format!("COLONNADE_{}", key.replace('.', "__").to_uppercase());
        self.places.iter().map(|(_, key, value)| (variable(key), value.clone())).collect()
    }

    pub(crate) fn flags(&self) -> Result<Vec<Setting>, Failure> {
        let named = [
            ("--server-name", "server_name", &self.server_name),
            ("--data-dir", "data_dir", &self.data_dir),
            ("--listen", "listen", &self.listen),
            ("--log", "logging.level", &self.log),
        ];
        let mut flags = Vec::new();
        for (flag, key, value) in &self.places {
            let source = Source::Flag((*flag).to_owned());
            flags.push(Setting { source, key: (*key).to_owned(), value: value.clone() });
        }
        for (flag, key, value) in named {
            if let Some(value) = value {
                let source = Source::Flag(flag.to_owned());
                flags.push(Setting { source, key: key.to_owned(), value: value.clone() });
            }
        }
        for pair in &self.set {
            let Some((key, value)) = pair.split_once('=') else {
                let why = format!("--set {pair}: write it like --set logging.format=json");
                return Err(Failure::Usage(why));
            };
            let source = Source::Flag(format!("--set {pair}"));
            flags.push(Setting { source, key: key.to_owned(), value: value.to_owned() });
        }
        Ok(flags)
    }
}

/// The environment as text; variables that are not text cannot be settings of ours.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}
