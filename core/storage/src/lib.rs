//! Tables. The only crate that knows SQL; `database/` is the only place in it that knows which
//! engine runs underneath. Every statement is written once, for SQLite and PostgreSQL.
//!
//! Writes go through [`Database::write`]: a closure over a transaction, committed together with
//! whatever else is waiting (group commit). A stream position is taken with [`Tx::seal`] as the
//! last step before the rows that carry it, so position order is commit order.

#[macro_use]
pub mod database;
pub mod account_data;
pub mod accounts;
pub mod aggregations;
pub mod chores;
pub mod client_txns;
pub mod device_lists;
pub mod devices;
pub mod directory;
pub mod encryption;
pub mod error;
pub mod events;
pub mod figures;
pub mod filters;
pub mod interned;
pub mod key_backup;
pub mod login_addresses;
pub mod media;
pub mod members;
pub mod nids;
pub mod ownership;
pub mod persist;
pub mod presence;
pub mod private;
pub mod profiles;
pub mod pushers;
pub mod quota;
pub mod receipts;
pub mod relations;
pub mod reports;
mod restored;
pub mod rooms;
pub mod search;
pub mod sessions;
pub mod settings;
pub mod state;
pub mod stored;
pub mod streams;
pub mod summaries;
pub mod to_device;
pub mod touches;
pub mod uia;
pub mod unread;
pub mod user_words;
mod varints;

pub use database::{
    CommitListener, Database, DatabaseClock, Fate, Held, Lane, Location, Lock, Stepwise, Tx,
};
pub use error::{Result, StorageError};
pub use restored::restored;
