//! Waking together: what is no message, that somebody read or types, waits for company for a moment, so that one
//! answer carries what several people do at about the same time. Of a room of people who read what was just said,
//! each would else be woken by each other.
//!
//! Nothing is told later than it would be: whoever asks meanwhile, or is woken by a message, is told of it.

use std::sync::{Arc, Weak};

use colonnade_model::stream::Touch;
use tokio::{sync::Notify, time::Instant};

use super::{Notifier, queue::Gathering};

/// Wakes whoever watches what was gathered, as long as the notifier lives.
pub(crate) async fn wake_gathered(notifier: Weak<Notifier>, began: Arc<Notify>) {
    loop {
        let Some(due) = notifier.upgrade().map(|notifier| notifier.gathering.lock().due) else {
            return;
        };
        match due {
            Some(due) => {
                tokio::time::sleep_until(due).await;
                let Some(notifier) = notifier.upgrade() else { return };
                notifier.end_gathering();
            }
            None => began.notified().await,
        }
    }
}

impl Notifier {
    /// Wakes whoever watches any of these when others had the time to come along.
    pub(crate) fn gather(&self, touches: impl Iterator<Item = Touch>) {
        if self.gathered_for.is_zero() {
            return self.wake_those(touches);
        }
        let mut gathering = self.gathering.lock();
        gathering.touched.extend(touches);
        if gathering.due.is_none() {
            gathering.due = Some(Instant::now() + self.gathered_for);
            self.gathering_began.notify_one();
        }
    }

    fn end_gathering(&self) {
        let Gathering { touched, .. } = std::mem::take(&mut *self.gathering.lock());
        self.wake_those(touched.into_iter());
    }
}
