//! Everything that is mounted, area by area.

use crate::{client, server, table::Table};

/// Returns every endpoint of the homeserver.
pub fn all() -> Table {
    let mut table = of_clients();
    server::mount(&mut table);
    table
}

/// Returns the endpoints that other servers ask, and those by which they find this one.
pub fn of_servers() -> Table {
    let mut table = Table::default();
    server::mount(&mut table);
    table
}

/// Returns the endpoints that clients ask.
pub fn of_clients() -> Table {
    let mut table = Table::default();
    client::versions::mount(&mut table);
    client::accounts::mount(&mut table);
    client::addresses::mount(&mut table);
    client::registration::mount(&mut table);
    client::login::mount(&mut table);
    client::devices::mount(&mut table);
    client::profiles::mount(&mut table);
    client::account_data::mount(&mut table);
    client::filters::mount(&mut table);
    client::rooms_write::mount(&mut table);
    client::membership::mount(&mut table);
    client::rooms_read::mount(&mut table);
    client::rooms_state::mount(&mut table);
    client::relations::mount(&mut table);
    client::directory::mount(&mut table);
    client::spaces::mount(&mut table);
    client::receipts::mount(&mut table);
    client::typing::mount(&mut table);
    client::presence::mount(&mut table);
    client::keys::mount(&mut table);
    client::key_backup::mount(&mut table);
    client::to_device::mount(&mut table);
    client::media::mount(&mut table);
    client::push_rules::mount(&mut table);
    client::reports::mount(&mut table);
    client::sync::mount(&mut table);
    client::sliding_sync::mount(&mut table);
    client::events::mount(&mut table);
    client::initial::mount(&mut table);
    client::notifications::mount(&mut table);
    client::restrictions::mount(&mut table);
    client::search::mount(&mut table);
    table
}
