//! The assembly: the one crate a worker embeds. Opens the database, builds the services, mounts the
//! endpoints, listens. Holds no domain logic.

pub mod keys;
pub mod listener;
pub mod wiring;

pub use wiring::{Homeserver, Options, StartError};
