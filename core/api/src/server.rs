//! The server-server endpoints, one file per area; each mounts its own. Who asks is another server, proved by
//! its signature over the request (`endpoint.rs`), except for what anybody may know.

mod devices;
mod directory;
mod discovery;
mod endpoint;
mod keys;
mod media;
mod profiles;
mod rooms;
mod spaces;
mod third_party;

use crate::table::Table;

/// Mounts the endpoints of all areas.
pub(crate) fn mount(table: &mut Table) {
    devices::mount(table);
    directory::mount(table);
    discovery::mount(table);
    keys::mount(table);
    media::mount(table);
    profiles::mount(table);
    rooms::mount(table);
    spaces::mount(table);
    third_party::mount(table);
}
