//! The assembly: the one crate a worker embeds. Opens the database, builds the services, mounts the
//! endpoints, listens. Holds no domain logic.

pub mod admin;
mod alone;
mod carrier;
pub mod config;
pub mod control;
pub mod db;
pub mod front;
mod identity;
mod internal;
pub mod keys;
pub mod listener;
pub mod logging;
pub mod metrics;
mod misdirected;
pub mod private;
pub mod roles;
mod slow;
pub mod spans;
mod time;
mod unread;
pub mod wiring;
pub mod worker;

pub use config::Config;
pub use wiring::{Homeserver, Options, StartError};
pub use worker::Worker;

/// Lists what is mounted, one `METHOD path` a line: the contract with the gateway.
pub fn endpoints() -> String {
    colonnade_api::router::listing(&colonnade_api::routes::all())
}
