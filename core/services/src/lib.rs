//! What a homeserver does, one module per topic. Knows nothing of HTTP; speaks to the database
//! through `storage` and to other processes through `replication`. Services are built once, in the
//! order of [`Services::start`], each from the [`Context`] and the services before it.

mod assembly;
#[cfg(test)]
mod caches;

// In the order in which they are built.
pub mod account_data;
pub mod accounts;
pub mod answers;
mod background_jobs;
pub mod bodies;
pub mod deactivation;
pub mod devices;
pub mod directory;
pub mod encryption;
pub mod filters;
pub mod key_backup;
pub mod lifecycle;
pub mod limits;
pub mod media;
pub mod membership;
pub mod presence;
pub mod profile_change;
pub mod profiles;
pub mod push;
pub mod receipts;
pub mod reports;
pub mod services;
pub mod sync;
pub mod timeline;
pub mod to_device;
pub mod turn_server;
pub mod typing;
mod upgrade_carry_over;

pub use services::Services;
