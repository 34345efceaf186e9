//! One setting from outside the file: a variable of the environment, or a flag.

/// What every environment variable of ours begins with.
pub const VARIABLE_PREFIX: &str = "COLONNADE_";

/// One setting from outside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Where it comes from, for messages.
    pub source: Source,
    /// The key, with dots between its levels.
    pub key: String,
    /// The value as text, read as YAML.
    pub value: String,
}

/// Where a setting from outside the file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An environment variable, by name.
    Variable(String),
    /// A flag, as it is written.
    Flag(String),
}
