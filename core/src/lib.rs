//! The assembly: the one crate a worker embeds. Opens the database, builds the services, mounts the
//! endpoints, listens. Holds no domain logic.

pub mod address;
pub mod admin;
pub mod config;
pub mod control;
pub mod db;
pub mod homeserver;
mod identity;
pub mod keys;
pub mod listener;
pub mod roles;
pub mod rpc;
pub mod secret_file;
mod signing_keys;
mod single_process;
mod start_error;
pub mod telemetry;
mod time;
pub mod worker;

pub use address::Address;
pub use config::Config;
pub use homeserver::{Homeserver, Options};
pub use start_error::StartError;
pub use worker::Worker;

/// Lists what is mounted, one `METHOD path` a line: the contract with the gateway.
pub fn endpoints() -> String {
    colonnade_api::router::listing(&colonnade_api::routes::all())
}
