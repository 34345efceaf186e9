//! Waking at a pace: for what everybody in a room is to hear, but not at this moment. Each login changes
//! presence and keys, and in a room of everybody each of them would wake everybody at once, so that
//! whoever waits for a message would wait for all of their answers, too.
//!
//! Few are woken at once; more stand in a queue, each of them once however much there is to tell.
//! Nothing is told later than it would be: whoever asks meanwhile, or is woken by something else, is
//! told of it.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use colonnade_model::stream::{Stream, Touch};
use tokio::{sync::Notify, time::Instant};

use super::{Notifier, gather::wake_gathered};

/// The time from one part of the queue to the next.
const TICK: Duration = Duration::from_millis(50);
/// Clients woken in one: 100 a second.
const PART: usize = 5;
/// Or this part of the queue, if that is more: of 20,000 the last is woken after 40 s.
const SHARE: usize = 200;
/// Clients waiting for one room past which a change of presence wakes none of them: they hear of it
/// with their next answer. For keys they are woken: who writes has to know for whom to encrypt.
pub(crate) const PRESENCE_CROWD_MAX: usize = 200;

/// Wakes those in the queue, part by part, as long as the notifier lives.
pub(crate) async fn wake_in_parts(notifier: Weak<Notifier>, queue_grew: Arc<Notify>) {
    loop {
        let Some(due) = notifier.upgrade().map(|notifier| notifier.next_part()) else { return };
        match due {
            Some(due) => {
                if due > Instant::now() {
                    tokio::time::sleep_until(due).await;
                }
                let Some(notifier) = notifier.upgrade() else { return };
                notifier.wake_part();
            }
            None => queue_grew.notified().await,
        }
    }
}

impl Notifier {
    /// Wakes those in the queue, part by part, and those who watch what was gathered, as long as this lives.
    pub(crate) fn start(self: &Arc<Self>) {
        tokio::spawn(wake_in_parts(Arc::downgrade(self), Arc::clone(&self.queue_grew)));
        tokio::spawn(wake_gathered(Arc::downgrade(self), Arc::clone(&self.gathering_began)));
    }

    /// Puts whoever watches any of these into the queue.
    pub(crate) fn wake_later(&self, stream: Stream, touches: impl Iterator<Item = Touch>) {
        let crowd_max = match stream {
            Stream::Presence => PRESENCE_CROWD_MAX,
            _ => usize::MAX,
        };
        let watchers = self.watchers.lock();
        let mut queue = self.queue.lock();
        for list in touches.filter_map(|touch| watchers.get(&touch)) {
            let living = || list.iter().filter(|watcher| watcher.strong_count() > 0);
            if list.len() > crowd_max && living().count() > crowd_max {
                continue;
            }
            let new = living().filter(|watcher| {
                let watcher = watcher.upgrade();
                watcher.is_some_and(|watcher| !watcher.is_queued.swap(true, Ordering::AcqRel))
            });
            queue.waiting.extend(new.cloned());
        }
        if !queue.waiting.is_empty() {
            self.queue_grew.notify_one();
        }
    }

    /// Returns when the next part of the queue is to be woken; `None` if nobody is in it.
    pub(crate) fn next_part(&self) -> Option<Instant> {
        let queue = self.queue.lock();
        (!queue.waiting.is_empty()).then(|| queue.rests_until.unwrap_or_else(Instant::now))
    }

    /// Wakes the next part of the queue. Those who have gone since do not count.
    pub(crate) fn wake_part(&self) {
        let mut queue = self.queue.lock();
        let part = PART.max(queue.waiting.len().div_ceil(SHARE));
        let mut woken = 0;
        while woken < part
            && let Some(next) = queue.waiting.pop_front()
        {
            if let Some(watcher) = next.upgrade() {
                watcher.is_queued.store(false, Ordering::Release);
                watcher.notify.notify_one();
                woken += 1;
            }
        }
        queue.rests_until = Some(Instant::now() + TICK);
    }
}
