//! What can go wrong with a table, by what the caller does about it: nothing else is told apart.

/// The result of every storage call.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why a storage call failed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A row with that key exists already; the caller decides whether that is an answer.
    #[error("a row with this key exists already ({0})")]
    Conflict(String),
    /// The database cannot be reached or cannot write now; the same call may work later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The transaction had to give way to another and is undone; the writers try again by themselves.
    #[error("another transaction was in the way: {0}")]
    Contended(String),
    /// This process does not own what it wanted to write any more; the owner has to do it.
    #[error("not the owner: {0}")]
    Fenced(String),
    /// The owner may not keep that much; nothing was written.
    #[error("{} would be more than {} = {}", .0.what, .0.bound.setting, .0.bound.max)]
    Full(Full),
    /// This alias does not point to the room that calls it its own; nothing was written.
    #[error("{0} does not point to the room")]
    Dangling(String),
    /// A row holds what we never write: somebody must look at it.
    #[error("damaged row in table {table}, column {column}, key {key}: {why}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key as text.
        key: String,
        /// What is wrong with the value.
        why: String,
    },
    /// A text with U+0000 was to be stored or looked for; nothing was done.
    #[error("a text contains U+0000")]
    NotText,
    /// A statement failed for a reason that is ours (a bug) or the file's (a damaged database).
    #[error("the database refused a statement: {0}")]
    Failed(String),
    /// The database cannot be used by this program; the text says what to do.
    #[error("{0}")]
    Unusable(String),
}

impl StorageError {
    /// Makes the error for a row that cannot be understood.
    pub fn corrupt(
        table: &'static str,
        column: &'static str,
        key: impl ToString,
        why: impl ToString,
    ) -> Self {
        Self::Corrupt { table, column, key: key.to_string(), why: why.to_string() }
    }
}

/// A bound and the setting that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The setting, `limits.account_data_bytes_max` say.
    pub setting: &'static str,
    /// At most.
    pub max: i64,
}

/// An owner would keep more than it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// What is kept.
    pub what: &'static str,
    /// The bound.
    pub bound: Bound,
    /// The bound is one of bytes, not of numbers.
    pub in_bytes: bool,
}

impl Bound {
    /// No bound.
    pub const NONE: Self = Self { setting: "none", max: i64::MAX };
}
