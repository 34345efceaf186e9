//! One pusher: what waits for it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use colonnade_model::{nid::RoomNid, stream::Position};
use colonnade_rooms::RoomEvent;
use colonnade_storage::delivery::push::{PusherKey, StoredPusher};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::Notify;

/// Notifications that wait for one pusher. Of more the newest stay: whoever was away for long is not helped by a flood,
/// and sees the rest in the rooms.
const WAITING_MAX: usize = 50;

/// An event that notifies.
#[derive(Debug)]
pub(super) struct Notification {
    pub(super) pos: Position,
    pub(super) room: RoomNid,
    pub(super) event: Arc<RoomEvent>,
    /// What the user's rules say beside that it notifies: sound, highlight.
    pub(super) tweaks: Map<String, Value>,
    /// It is an invitation: nobody reads that.
    pub(super) is_invite: bool,
}

/// What waits.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) queue: VecDeque<Arc<Notification>>,
    /// What is unread changed, and the gateway is to be told.
    pub(super) badge_is_due: bool,
    /// What the gateway was told last is unread.
    pub(super) told_unread: i64,
    /// A task sends.
    pub(super) is_sending: bool,
}

/// A pusher of this process.
pub(super) struct Pusher {
    pub(super) key: PusherKey,
    pub(super) shard: i64,
    /// Where its gateway is; `None`: nowhere.
    pub(super) gateway: Option<String>,
    /// The client wants the event's id and no more of it.
    pub(super) is_id_only: bool,
    /// What goes back to the gateway with each notification.
    pub(super) data: Map<String, Value>,
    body: Value,
    pub(super) created_ts: i64,
    /// Events after this are for it.
    begin: AtomicI64,
    /// Since when its gateway does not take what it is sent; 0: it does.
    pub(super) failing_since_ms: AtomicI64,
    pub(super) waiting: Mutex<Waiting>,
    is_ended: AtomicBool,
    pub(super) ended: Notify,
}

/// What became of a notification.
pub(super) enum Enqueued {
    /// It waits; the task that sends is to be started.
    Start,
    /// It waits; this one was left out for it.
    InsteadOf,
    /// It waits.
    Waits,
}

impl Pusher {
    pub(super) fn new(stored: StoredPusher, shard: i64, begin: Position) -> Self {
        let StoredPusher { key, body, created_ts, failing_since_ms, told_unread, .. } = stored;
        let mut data = body["data"].as_object().cloned().unwrap_or_default();
        let gateway = data.remove("url");
        let gateway = gateway.and_then(|url| Some(url.as_str()?.to_owned()));
        let is_id_only = data.get("format").is_some_and(|format| format == "event_id_only");
        Self {
            key,
            shard,
            gateway,
            is_id_only,
            data,
            body,
            created_ts,
            begin: AtomicI64::new(begin),
            failing_since_ms: AtomicI64::new(failing_since_ms),
            waiting: Mutex::new(Waiting { told_unread, ..Waiting::default() }),
            is_ended: AtomicBool::new(false),
            ended: Notify::new(),
        }
    }

    /// Tells whether it is the stored one, unchanged.
    pub(super) fn is(&self, stored: &StoredPusher) -> bool {
        self.key == stored.key && self.body == stored.body
    }

    /// Returns after which position events are for it.
    pub(super) fn begin(&self) -> Position {
        self.begin.load(Ordering::Relaxed)
    }

    /// Says after which position events are for it.
    pub(super) fn begin_at(&self, pos: Position) {
        self.begin.store(pos, Ordering::Relaxed);
    }

    /// Adds a notification.
    pub(super) fn add(&self, notification: Arc<Notification>) -> Enqueued {
        let mut waiting = self.waiting.lock();
        waiting.queue.push_back(notification);
        if waiting.queue.len() > WAITING_MAX {
            // The first may be under way: it stays.
            waiting.queue.remove(1);
            return Enqueued::InsteadOf;
        }
        match std::mem::replace(&mut waiting.is_sending, true) {
            true => Enqueued::Waits,
            false => Enqueued::Start,
        }
    }

    /// Says that what is unread changed; returns whether the task that sends is to be started.
    pub(super) fn badge_changed(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.badge_is_due = true;
        !std::mem::replace(&mut waiting.is_sending, true)
    }

    /// Takes over what waits for the same pusher as it was before its client changed it.
    pub(super) fn inherit(&self, before: &Self) {
        let mut waiting = self.waiting.lock();
        waiting.queue = before.waiting.lock().queue.clone();
        waiting.is_sending = !waiting.queue.is_empty();
    }

    /// Tells whether it took over anything.
    pub(super) fn is_inherited(&self) -> bool {
        self.waiting.lock().is_sending
    }

    /// Nothing is sent to it by this process any more.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
        self.ended.notify_waiters();
    }

    /// Tells whether nothing is sent to it any more.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Relaxed)
    }
}
