//! Ids for requests that bring none.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes request ids: unique in this process, told apart between processes by the seed.
pub struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Begins a series of ids.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(0) }
    }

    pub(crate) fn next(&self) -> String {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{count:x}", self.seed)
    }
}
