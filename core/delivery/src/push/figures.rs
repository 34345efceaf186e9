//! Counting notifications, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// How telling push gateways goes, since the start.
#[derive(Debug, Default)]
pub struct PushFigures {
    /// Requests that a gateway took.
    pub(super) sent: AtomicU64,
    /// Requests that it did not.
    pub(super) failed: AtomicU64,
    /// Pushers that a gateway did not know any more.
    pub(super) rejected: AtomicU64,
    /// Notifications that were left out: too many waited, or for too long.
    pub(super) left_out: AtomicU64,
}

impl PushFigures {
    /// Counts one more.
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns requests by what became of them, and the notifications that were left out.
    pub fn read(&self) -> [(&'static str, u64); 4] {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("sent", of(&self.sent)),
            ("failed", of(&self.failed)),
            ("rejected", of(&self.rejected)),
            ("left_out", of(&self.left_out)),
        ]
    }
}
