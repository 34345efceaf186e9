//! Rooms: the graph of events of each, and how an event comes into it. What users want with rooms, joining
//! or moderating, is a use case of `services`; this crate knows no request of a client.
//!
//! Reading is [`Store`]'s, to which [`Rooms`] dereferences. Writing goes one way: `send.rs` (or `founding.rs`,
//! for a room that is not there yet) → `actor/owner.rs` → `actor.rs`, one per room → `pending_room/propose.rs`
//! → `pending_room/ingest.rs`, the one door → `pending_room/apply.rs` → `actor/committer.rs`, one transaction
//! for many rooms: nothing else writes events. Every crate further right stands on its [`Context`],
//! [`Settings`] and [`Error`].

mod actor;
mod change;
pub mod context;
pub mod error;
pub mod founding;
pub mod generation_cache;
pub mod incoming;
mod pending_room;
pub mod proposal;
pub mod quotas;
mod refusals;
pub mod remote;
pub mod rpc;
mod send;
mod service;
pub mod settings;
mod signing_key;
mod store;

pub use context::Context;
pub use error::{Error, Result};
pub use pending_room::checks::aliases_of;
pub use proposal::Sent;
pub use refusals::{no_event, no_member, unknown_room};
pub use service::Rooms;
pub use settings::Settings;
pub use signing_key::SigningKey;
pub use store::viewpoint::{Standing, Viewpoint};
pub use store::visibility::{Eye, Seen};
pub use store::{Room, RoomEvent, Store};

#[cfg(test)]
mod tests;
