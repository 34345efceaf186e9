//! Sliding sync: what is new of the rooms that a client looks at, by windows on the list of its user's rooms and
//! by name, and beside rooms only what it asks for.
//!
//! `request.rs` says what is asked, `room_list.rs` which rooms that is, `room.rs` what is told of one,
//! `extensions.rs` what beside rooms; `connection.rs` remembers what was told. It waits as `/sync` does
//! (`sync/waiting.rs`), and reads by the same functions.
//!
//! Source: MSC4186.

mod answer;
mod connection;
mod connection_state;
mod extensions;
mod facts;
mod request;
mod required;
mod required_state;
mod room;
mod room_facts;
mod room_list;
mod service;

pub(super) use connection::Connections;
pub(super) use facts::Facts;
pub use request::{
    Dialect, ExtensionRooms, Extensions, List, RoomConfig, RoomFilters, SlidingRequest,
    ToDeviceExtension,
};
pub use required_state::{Pattern, RequiredState};
