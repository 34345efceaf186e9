//! One destination: what waits for it.

use std::collections::VecDeque;

use colonnade_model::{nid::EventNid, ruma::OwnedServerName, stream::Position};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Events that wait in memory for a destination. Of one that is behind by more they are read again.
const WAITING_MAX: usize = 200;

/// What waits for a destination.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) events: VecDeque<(Position, EventNid)>,
    /// More is waiting than is in memory: the database is asked.
    pub(super) is_behind: bool,
    /// The last that is not in memory.
    pub(super) left_out: Position,
}

/// A destination.
pub(super) struct Destination {
    pub(super) server: OwnedServerName,
    pub(super) waiting: Mutex<Waiting>,
    pub(super) look: Notify,
    pub(super) returned: Notify,
}

impl Destination {
    /// A destination of which the database says how far it is.
    pub(super) fn new(server: OwnedServerName) -> Self {
        let waiting = Waiting { is_behind: true, ..Waiting::default() };
        Self { server, waiting: Mutex::new(waiting), look: Notify::new(), returned: Notify::new() }
    }

    /// Adds an event.
    pub(super) fn add(&self, pos: Position, event: EventNid) {
        let mut waiting = self.waiting.lock();
        if waiting.events.len() >= WAITING_MAX {
            waiting.left_out = waiting.events.back().map_or(0, |(pos, _)| *pos);
            waiting.events.clear();
            waiting.is_behind = true;
        }
        waiting.events.push_back((pos, event));
    }

    /// Has its task look at what waits.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    /// It can be reached again.
    pub(super) fn returned(&self) {
        self.returned.notify_one();
    }
}
