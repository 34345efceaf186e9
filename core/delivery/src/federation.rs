//! Telling other servers: every event that a user of this server sends goes to the servers of its room.
//!
//! A destination owns nothing per event. It has a position, and what comes after it is still to be sent: after a
//! restart, a take-over or an outage of either side the database says what that is. As long as a destination
//! takes what it is sent, events reach it by `fan_out.rs`: one look at the stream for all destinations.
//! One transaction is in flight to each at a time, made by the process that owns its slot.
//!
//! Invariants:
//! 1. A position is raised after the destination answered with success, never before.
//! 2. Two processes may send the same for a moment, at a take-over; the name of a transaction is made of what is
//!    in it, so the destination takes it once.

mod body;
mod destination;
mod edus;
mod fan_out;
mod moves;
mod parcel;
mod presence;
mod sender;
mod sending;
mod typing;

use std::sync::Arc;

use colonnade_federation::transport::Transport;
use colonnade_model::stream::Positions;
use colonnade_replication::Latest;
use colonnade_rooms::{Context, Rooms};

pub use moves::Moves;
pub use sender::{EduSources, FederationSender};

/// Begins to send, as long as what is returned lives. `positions` says how far the streams have come.
pub fn start(
    context: Arc<Context>,
    rooms: Rooms,
    transport: Transport,
    positions: Arc<Latest<Positions>>,
    sources: EduSources,
) -> Arc<FederationSender> {
    let sender = FederationSender::new(context, rooms, transport, positions, sources);
    let sender = Arc::new(sender);
    if sender.transport.policy().is_enabled() {
        tokio::spawn(fan_out::run(Arc::downgrade(&sender)));
        tokio::spawn(fan_out::wake_returned(Arc::downgrade(&sender)));
        tokio::spawn(typing::run(Arc::downgrade(&sender)));
        tokio::spawn(presence::run(Arc::downgrade(&sender)));
    }
    sender
}
