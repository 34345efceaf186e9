//! Events that other servers made, on their way into a room: what is known of the state before them.

use colonnade_model::nid::EventNid;
use colonnade_rules::event::Event;
use serde::{Deserialize, Serialize};

/// An event that another server made, whose form, hash and signatures were checked.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The event.
    pub event: Event,
    /// Where the state before it comes from.
    pub before: StateBefore,
    /// What is known of the word of the room's policy server.
    pub policy: PolicyCheck,
}

/// What is known of what a room's policy server says of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PolicyCheck {
    /// If the event has no signature of it, it is to be asked.
    #[default]
    Due,
    /// It was asked: without its signature the event is not recommended.
    Asked,
    /// It does not count.
    NotDue,
}

/// Where the state before an event comes from.
#[derive(Debug, Clone)]
pub enum StateBefore {
    /// It follows from the events before it, which are all known.
    Followed,
    /// The same; and the server of its sender, which is not in the room, or no longer, handed it over: this
    /// server tells the others.
    HandedOver,
    /// Another server says it: these events, stored before. Some of what the event follows is not
    /// known here.
    Given(Vec<EventNid>),
    /// Some of what the event follows is not known here. Another server says the state there: of each of those,
    /// the state before it as above, and the event, stored as an outlier. What else the event follows is known,
    /// and all of it is resolved.
    Between(Vec<(Vec<EventNid>, EventNid)>),
    /// As given, and nobody of this server is in the room: it is all that is known of the room from
    /// now on.
    Entered(Vec<EventNid>),
    /// Nothing is known of the room but this membership of a user of this server, and what its server
    /// shows of the room: a JSON array of stripped state events.
    OutOfBand(String),
}

impl Incoming {
    /// An event of which everything it follows is known.
    pub fn following(event: Event) -> Self {
        Self::with(event, StateBefore::Followed)
    }

    /// An event, and where the state before it comes from.
    pub fn with(event: Event, before: StateBefore) -> Self {
        Self { event, before, policy: PolicyCheck::Due }
    }
}
