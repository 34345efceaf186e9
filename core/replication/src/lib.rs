//! Streams between processes: the bus that carries hints, and the positions they lead to. The only
//! crate that may know Redis. A message says "look"; the database is the truth.

pub mod bus;
mod message;
pub mod redis_bus;
pub mod streams;

pub use bus::{Bus, InProcess};
pub use redis_bus::{BusError, Redis};
pub use streams::Streams;
