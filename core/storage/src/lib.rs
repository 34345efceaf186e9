//! Tables. The only crate that knows SQL; `database/` is the only place in it that knows which
//! engine runs underneath. Every statement is written once, for SQLite and PostgreSQL.
//!
//! Writes go through [`Database::write`]: a closure over a transaction, committed together with
//! whatever else is waiting (group commit). A stream position is taken with [`Tx::seal`] as the
//! last step before the rows that carry it, so position order is commit order.

#[macro_use]
pub mod database;
pub mod delivery;
pub mod error;
pub mod federation;
pub mod keys;
pub mod media;
pub mod ownership;
pub mod quota;
pub mod rooms;
pub mod streams;
pub mod touches;
pub mod users;

pub use database::restored::restored;
pub use database::{
    CommitListener, Database, DatabaseClock, Fate, Held, Lane, Location, Lock, Stepwise, Tx,
};
pub use error::{Result, StorageError};
