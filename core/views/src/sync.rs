//! `/sync`: what happened since a token. Any process gives the same answer from the same database;
//! memory ([`notifier`]) only makes it cheap.
//!
//! 1. Register for wake-ups, 2. sample the positions, 3. look. In this order, nothing is missed.

pub mod filter;
pub mod notifier;

mod account;
mod across;
mod answer;
mod at_hand;
mod changed_data;
mod chunk;
mod event_stream;
mod fields;
mod initial;
mod joined;
mod lazy_loaded;
mod left;
mod look;
mod query;
mod response;
mod service;
mod sliding;
mod state;
mod summary;
mod tally;
mod unread;
mod waiting;
mod writer;

pub use answer::{Rest, SyncAnswer};
pub use event_stream::{EventsAnswer, EventsRequest};
pub use initial::InitialRequest;
pub use service::Sources;
pub use service::{Sync, SyncRequest};
pub use sliding::{
    Dialect, ExtensionRooms, Extensions, List, Pattern, RequiredState, RoomConfig, RoomFilters,
    SlidingRequest, ToDeviceExtension,
};
pub use summary::heroes_of;
pub use unread::{UnreadOfRoom, unread_of};
