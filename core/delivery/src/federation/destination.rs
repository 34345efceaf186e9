//! One destination: what waits for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use colonnade_model::{
    nid::{EventNid, UserNid},
    ruma::{OwnedRoomId, OwnedServerName, OwnedUserId},
    stream::{Position, Stream},
};
use colonnade_storage::{federation::outgoing_changes::KeyChange, rooms::receipts::Receipt};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Rows of a stream that wait in memory for a destination. Of one that is behind by more they are read again.
const WAITING_MAX: usize = 200;
/// Users who type, or stopped, that a destination is to be told of at a time; of more it is not told.
const TYPING_MAX: usize = 200;

/// Users of whose presence a destination is to be told at a time; of more it is told when it is said again.
const PRESENCE_MAX: usize = 2_000;

/// The streams that destinations are told of, each from its position on.
pub(super) const STREAMS: [Stream; 3] = [Stream::Events, Stream::Receipts, Stream::DeviceLists];
/// The places of these.
pub(super) const EVENTS: usize = 0;
pub(super) const RECEIPTS: usize = 1;
pub(super) const KEY_CHANGES: usize = 2;

/// Something of a stream that a destination is to be told.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Event(EventNid),
    Receipt(Arc<Receipt>),
    KeyChange(Arc<KeyChange>),
}

/// What waits of one stream.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) items: VecDeque<(Position, Item)>,
    /// More is waiting than is in memory: the database is asked.
    pub(super) is_behind: bool,
    /// The last that is not in memory.
    pub(super) left_out: Position,
}

/// What waits for a destination.
#[derive(Default)]
pub(super) struct Waiting {
    /// In the order of [`STREAMS`].
    pub(super) queues: [Queue; STREAMS.len()],
    /// There may be messages to its devices.
    pub(super) has_messages: bool,
    /// Who types, or stopped. Forgotten once it was tried to say it.
    pub(super) typing: BTreeMap<(OwnedRoomId, OwnedUserId), bool>,
    /// Of whom it is to be told whether he is here, as he is when it is sent.
    pub(super) presence: BTreeSet<UserNid>,
}

/// A destination.
pub(super) struct Destination {
    pub(super) server: OwnedServerName,
    pub(super) waiting: Mutex<Waiting>,
    pub(super) look: Notify,
    pub(super) returned: Notify,
}

impl Waiting {
    /// Everything has to be read.
    pub(super) fn all_behind(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.is_behind = true);
        self.has_messages = true;
    }

    /// Tells whether there is, or may be, something to send.
    pub(super) fn is_any(&self) -> bool {
        let is_any = |queue: &Queue| queue.is_behind || !queue.items.is_empty();
        self.has_messages
            || !self.typing.is_empty()
            || !self.presence.is_empty()
            || self.queues.iter().any(is_any)
    }
}

impl Destination {
    /// A destination of which the database says how far it is.
    pub(super) fn new(server: OwnedServerName) -> Self {
        let mut waiting = Waiting::default();
        waiting.all_behind();
        Self { server, waiting: Mutex::new(waiting), look: Notify::new(), returned: Notify::new() }
    }

    /// Adds what comes next in a stream, by its place in [`STREAMS`].
    pub(super) fn add(&self, stream: usize, pos: Position, item: Item) {
        let mut waiting = self.waiting.lock();
        let queue = &mut waiting.queues[stream];
        if queue.items.len() >= WAITING_MAX {
            queue.left_out = queue.items.back().map_or(0, |(pos, _)| *pos);
            queue.items.clear();
            queue.is_behind = true;
        }
        queue.items.push_back((pos, item));
    }

    /// Says that there are messages to its devices.
    pub(super) fn has_messages(&self) {
        self.waiting.lock().has_messages = true;
    }

    /// Adds that a user types, or stopped.
    pub(super) fn types(&self, room: &OwnedRoomId, user: &OwnedUserId, is_typing: bool) {
        let mut waiting = self.waiting.lock();
        if waiting.typing.len() < TYPING_MAX {
            waiting.typing.insert((room.clone(), user.clone()), is_typing);
        }
    }

    /// Adds users of whose presence it is to be told.
    pub(super) fn shows(&self, users: &[UserNid]) {
        let mut waiting = self.waiting.lock();
        for user in users {
            if waiting.presence.len() >= PRESENCE_MAX {
                break;
            }
            waiting.presence.insert(*user);
        }
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
