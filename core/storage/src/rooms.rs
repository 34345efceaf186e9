//! What is stored of rooms: events, state, members, receipts, counters and the directory.

pub mod aggregations;
pub mod arrivals;
pub mod client_txns;
pub mod directory;
pub mod events;
pub mod gaps;
pub mod heads;
pub mod interned;
pub mod members;
pub mod nids;
pub mod persist;
pub mod receipts;
pub mod relations;
pub mod reports;
pub mod search;
pub mod servers;
pub mod state;
pub mod stripped;
pub mod summaries;
pub mod unread;
pub(crate) mod varints;
