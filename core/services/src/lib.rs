//! What a homeserver does, one module per topic. Knows nothing of HTTP; speaks to the database
//! through `storage` and to other processes through `replication`. Services are built once, in the
//! order of [`Services::start`], each from the [`Context`] and the services before it.

mod assembly;
#[cfg(test)]
mod caches;

// In the order in which they are built.
mod background_jobs;
pub mod deactivation;
pub mod lifecycle;
pub mod media;
pub mod membership;
pub mod profile_change;
pub mod reports;
pub mod services;
pub mod turn_server;
mod upgrade_carry_over;

pub use services::Services;
