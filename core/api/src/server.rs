//! The server-server endpoints, one file per area; each mounts its own. Who asks is another server, proved by
//! its signature over the request (`endpoint.rs`), except for what anybody may know.

mod discovery;
mod endpoint;
mod keys;
mod profiles;

use crate::table::Table;

/// Mounts the endpoints of all areas.
pub(crate) fn mount(table: &mut Table) {
    discovery::mount(table);
    keys::mount(table);
    profiles::mount(table);
}
