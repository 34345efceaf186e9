//! To be written.

use crate::table::Table;

/// Mounts the endpoints of this area.
pub(crate) fn mount(_table: &mut Table) {}
