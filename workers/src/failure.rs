//! Why a command did not do what it was asked.

use std::fmt;

use colonnade_core::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// It failed while running.
    Running(String),
}

impl Failure {
    /// Returns the exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Running(_) => 1,
        }
    }

    /// Wraps an error in what somebody said, with everything beneath it.
    pub(crate) fn usage(error: &dyn std::error::Error) -> Self {
        Self::Usage(with_sources(error))
    }

    /// Wraps an error while running, with everything beneath it.
    pub(crate) fn running(error: &dyn std::error::Error) -> Self {
        Self::Running(with_sources(error))
    }
}

/// Renders an error and everything beneath it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(deeper) = source {
        text = format!("{text}: {deeper}");
        source = deeper.source();
    }
    text
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) | Self::Running(why) => f.write_str(why),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}
