//! A migration, and what a database lacks.

use std::borrow::Cow;

/// A migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) number: i64,
    pub(super) name: Cow<'static, str>,
    pub(super) sql: Cow<'static, str>,
}

/// A change that a database lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the migration.
    pub number: i64,
    /// Its name, which begins with the number.
    pub name: String,
    /// The newest migration a process has to know to run beside it, if it takes something away.
    pub needs: Option<i64>,
}

/// How a database stands to this program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pending {
    /// What would be applied.
    pub missing: Vec<Change>,
    /// Migrations of newer versions that are applied already, beside which this program may run.
    pub newer: Vec<i64>,
}

/// Since this migration the database says who may run on it, and who does.
pub(super) const PROCESSES_SINCE: i64 = 19;

/// Returns the number of the last one.
pub(super) fn newest(steps: &[Step]) -> i64 {
    steps.last().map_or(0, |step| step.number)
}
