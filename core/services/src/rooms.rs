//! Rooms: what is in them, and how something comes to be in them.
//!
//! Reading is [`Store`]'s, to which [`Rooms`] dereferences. Writing goes one way (`send.rs` and its
//! neighbours → `owner.rs` → `actor.rs`, one per room → `propose.rs` → `ingest.rs`, the one door →
//! `apply.rs` → `committer.rs`, one transaction for many rooms): nothing else writes events.

mod actor;
mod apply;
mod change;
pub(crate) mod checks;
mod committer;
mod custom_push_rules;
pub(crate) mod founding;
mod ingest;
mod lookup;
mod owner;
mod owner_calls;
mod pending_room;
pub(crate) mod proposal;
mod propose;
mod push_candidates;
mod refusals;
mod request;
mod resolution;
mod send;
mod service;
mod store;
mod stripped;
mod summary;
mod unread;
mod viewpoint;
mod visibility;

pub use proposal::Sent;
pub(crate) use refusals::{no_event, no_member, unknown_room};
pub use service::Rooms;
pub use store::{Room, RoomEvent, Store};
pub(crate) use viewpoint::Standing;
pub(crate) use visibility::Eye;

#[cfg(test)]
mod tests;
