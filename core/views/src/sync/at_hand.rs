//! What is in memory of a room for an answer, so that the database is not asked.

use std::sync::Arc;

use colonnade_model::{nid::StateNid, stream::Position};
use colonnade_rooms::{RoomEvent, Viewpoint};
use colonnade_storage::rooms::events::Range;

use crate::recent::{RecentEvent, RecentRoom};

/// What is in memory of a room for an answer. Without any of it the database says the same.
#[derive(Default)]
pub(super) struct AtHand {
    /// What was said last. Between its end and that of the answer nothing was said in the room.
    pub(super) recent: Option<Arc<RecentRoom>>,
    /// From where the user looks at the room.
    pub(super) point: Option<Viewpoint>,
}

impl AtHand {
    /// Returns what was said last, for what does not depend on positions.
    pub(super) fn recent(&self) -> Option<&RecentRoom> {
        self.recent.as_deref()
    }

    /// Returns the events above a position and up to another, oldest first, if all of them are here.
    pub(super) fn between(&self, after: Position, upto: Position) -> Option<&[RecentEvent]> {
        let recent = self.recent()?;
        recent.between(after, upto.min(recent.upto()))
    }

    /// Returns the newest events of a range, newest first, and whether there are no more of them, if all of them
    /// are here.
    pub(super) fn newest(&self, range: Range) -> Option<(Vec<Arc<RoomEvent>>, bool)> {
        let recent = self.recent()?;
        recent.newest(Range { upto: range.upto.min(recent.upto()), ..range })
    }

    /// Returns the state that was current at a position, if that is known here.
    pub(super) fn state_at(&self, position: Position) -> Option<Option<StateNid>> {
        let recent = self.recent()?;
        recent.state_at(position.min(recent.upto()))
    }
}
