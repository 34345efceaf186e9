//! A process that takes part in a deployment.

use crate::database::incarnation::DRAINING;

/// A row of `incarnations`.
pub(super) type Row = (i64, String, String, String, i64);

/// A process that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its incarnation.
    pub incarnation: i64,
    /// What the operator calls it.
    pub name: String,
    /// Its pools.
    pub pools: Vec<String>,
    /// Where requests for it go.
    pub address: String,
    /// It hands over what it has and gets nothing new.
    pub draining: bool,
}

impl From<Row> for Member {
    fn from((incarnation, name, pools, address, state): Row) -> Self {
        let pools = pools.split(',').map(str::to_owned).collect();
        Self { incarnation, name, pools, address, draining: state == DRAINING }
    }
}
