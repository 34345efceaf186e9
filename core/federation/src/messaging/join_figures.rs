//! Counting joins of rooms of other servers, for metrics.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How joins of rooms of other servers go.
#[derive(Debug, Default)]
pub struct JoinFigures {
    under_way: AtomicU64,
    events: AtomicU64,
}

impl JoinFigures {
    /// Returns how many are under way, and how many events all of them stored since the start.
    pub fn read(&self) -> (u64, u64) {
        (self.under_way.load(Ordering::Relaxed), self.events.load(Ordering::Relaxed))
    }

    /// Counts one as under way until what is returned is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> JoinUnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        JoinUnderWay(Arc::clone(self))
    }

    /// Counts events that were stored.
    pub(super) fn stored(&self, events: usize) {
        self.events.fetch_add(events as u64, Ordering::Relaxed);
    }
}

/// A join that is under way.
pub(super) struct JoinUnderWay(Arc<JoinFigures>);

impl Drop for JoinUnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
