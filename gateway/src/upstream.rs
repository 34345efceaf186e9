//! The workers behind the gateway: pools and the choice of a member, the hash ring, health, the slot map,
//! idle connections, and the gateway's own questions to workers.

pub(crate) mod checker;
pub mod health;
pub(crate) mod idle;
pub mod pools;
pub mod ring;
pub(crate) mod slot_watcher;
pub mod slots;
pub mod transport;
pub mod user_lookup;
pub(crate) mod worker_client;
