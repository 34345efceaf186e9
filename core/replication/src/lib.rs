//! Streams between processes: the bus that carries hints, and the positions they lead to, and who of
//! them owns what. The only crate that may know Redis. A message says "look"; the database is the truth.

pub mod bus;
pub mod ephemeral;
pub mod follower;
mod latest;
mod message;
pub mod redis_bus;
pub mod slots;
pub mod streams;

pub use bus::{Bus, InProcess, Silent};
pub use follower::{Follower, Subscriber};
pub use latest::Latest;
pub use redis_bus::{BusError, Redis};
pub use slots::Slots;
pub use streams::Streams;
