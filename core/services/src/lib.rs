//! Use cases: what needs several of the crates to the left, of which neither may know the other, and media.
//! Knows nothing of HTTP. Services are built once, in the order of [`Services::start`], each from the
//! [`Context`](colonnade_rooms::Context) and the services before it.

mod assembly;
#[cfg(test)]
mod caches;

mod background_jobs;
pub mod deactivation;
pub mod federation;
pub mod lifecycle;
pub mod media;
pub mod membership;
pub mod profile_change;
pub mod reports;
pub mod services;
pub mod turn_server;
mod upgrade_carry_over;

pub use services::Services;
