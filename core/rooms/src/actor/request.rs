//! What a room is asked to do, and why its actor did nothing.

use colonnade_model::{MatrixError, nid::EventNid, ruma::events::TimelineEventType};
use colonnade_rules::event::Event;

use crate::proposal::Proposal;
use crate::{Error, incoming::Incoming};

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
    Receive(Box<Incoming>),
    /// Add events of the past, oldest first, with the state before the first of them.
    History(Vec<Event>, Vec<EventNid>),
    /// Store outliers, each after those that allow it.
    Outliers(Vec<Event>),
}

impl RoomRequest {
    /// Tells whether the commit may refuse it: members and aliases are counted across rooms.
    pub(crate) fn may_be_refused(&self) -> bool {
        let counted = [TimelineEventType::RoomMember, TimelineEventType::RoomCanonicalAlias];
        let Self::Send(proposals) = self else { return false };
        proposals.iter().any(|proposal| counted.contains(&proposal.event_type))
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::user_id;
    use serde_json::json;

    use super::*;
    use crate::proposal::{content, state_event};

    #[test]
    fn the_commit_may_refuse_what_is_counted_across_rooms() {
        let request = |kinds: &[&str]| {
            let user = user_id!("@a:b").to_owned();
            let one =
                |kind: &&str| state_event(&user, kind, String::new(), content(json!({})).unwrap());
            RoomRequest::Send(kinds.iter().map(one).collect())
        };
        for (kinds, expected) in [
            (&["m.room.member"][..], true),
            (&["m.room.canonical_alias"], true),
            (&["m.room.topic", "m.room.member"], true),
            (&["m.room.topic", "m.room.message"], false),
            (&[], false),
        ] {
            assert_eq!(request(kinds).may_be_refused(), expected, "{kinds:?}");
        }
        let event = crate::tests::event("m.room.member", Some("@a:b"), json!({}));
        assert!(
            !RoomRequest::Receive(Box::new(event.into())).may_be_refused(),
            "others count theirs"
        );
    }
}
