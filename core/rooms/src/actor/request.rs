//! What a room is asked to do, and why its actor did nothing.

use colonnade_model::{MatrixError, ruma::events::TimelineEventType};
use colonnade_rules::event::Event;

use crate::Error;
use crate::proposal::Proposal;

/// Why an actor did nothing.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The room is not ours, or no longer: somebody else has to be asked.
    NotOwner,
    /// What the client is told.
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<MatrixError> for Refusal {
    fn from(error: MatrixError) -> Self {
        Self::Error(error.into())
    }
}

/// What an actor is asked to do.
#[derive(Debug, Clone)]
pub(crate) enum RoomRequest {
    /// Add these events of our users, all of them or none.
    Send(Vec<Proposal>),
    /// Add an event that somebody else made.
    Receive(Box<Event>),
}

impl RoomRequest {
    /// Tells whether the commit may refuse it: members and aliases are counted across rooms.
    pub(crate) fn may_be_refused(&self) -> bool {
        let counted = [TimelineEventType::RoomMember, TimelineEventType::RoomCanonicalAlias];
        let Self::Send(proposals) = self else { return false };
        proposals.iter().any(|proposal| counted.contains(&proposal.event_type))
    }
}
