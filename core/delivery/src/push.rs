//! Telling push gateways: what notifies a user is sent to each of the user's pushers, in order, one at a time.
//!
//! A notification has no row. `follow.rs` reads the streams once for all pushers of this process and asks what
//! each event means to the members who have pushers; what notifies waits in memory ([`pusher`]) until the gateway took
//! it. What is stored is how far that went: of a pusher whose gateway takes what it is sent, the last it took; of one
//! whose gateway does not, since when, too; and of each shard of users, up to where all others were told.
//!
//! Invariants:
//! 1. A position is raised after the gateway answered with success, never before: what was not told is found again after
//!    a restart or by the next owner of the shard, and what was is not told again but for the one request under way.
//! 2. One process owns a shard's pushers at a time, and writes by that right.
//!
//! Source: Matrix v1.19, push gateway API; client-server, "Push notifications".

mod badge;
mod changes;
mod consider;
mod events;
mod figures;
mod follow;
mod index;
mod message;
mod progress;
mod pusher;
mod sender;
mod sending;
mod take_over;
mod unread;
mod users;

pub use changes::PusherChanges;
pub use figures::PushFigures;
pub use sender::{PushSender, PushSources};

use std::sync::Arc;

/// Begins to tell push gateways, as long as what is returned lives.
pub fn start(sources: PushSources) -> Arc<PushSender> {
    let sender = Arc::new(PushSender::new(sources));
    tokio::spawn(follow::run(Arc::downgrade(&sender)));
    sender
}
