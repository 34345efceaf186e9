//! What all requests together may make the gateway hold of their bodies, to send them again if a worker
//! fails. Whoever gets no share of it is served all the same: his body is passed on piece by piece, and
//! is gone when the worker has it.

use std::sync::Arc;

use prometheus::IntGauge;

/// So much of a request is always kept: its head, and the body of most. A connection costs more.
pub(crate) const SMALL: usize = 4 << 10;

/// The memory all share, and the gauge that shows how much of it is taken.
#[derive(Debug, Clone)]
pub struct ReplayMemory(Arc<IntGauge>);

/// One request's share of it; given back when dropped.
#[derive(Debug)]
pub(crate) struct ReplayPermit {
    memory: ReplayMemory,
    bytes: usize,
    max: u64,
}

impl ReplayMemory {
    /// Memory of which this gauge tells.
    pub fn new(gauge: IntGauge) -> Self {
        Self(Arc::new(gauge))
    }

    /// A share that is empty, of at most `max` bytes for all together.
    pub(crate) fn share(&self, max: u64) -> ReplayPermit {
        ReplayPermit { memory: self.clone(), bytes: 0, max }
    }
}

impl ReplayPermit {
    /// Says whether so many bytes may be held, and takes them.
    pub(crate) fn reaches(&mut self, bytes: usize) -> bool {
        if bytes <= SMALL || bytes <= self.bytes {
            return true;
        }
        let more = (bytes - self.bytes) as i64;
        self.memory.0.add(more);
        if u64::try_from(self.memory.0.get()).unwrap_or(0) > self.max {
            self.memory.0.sub(more);
            return false;
        }
        self.bytes = bytes;
        true
    }

    /// Gives it back.
    pub(crate) fn give_back(&mut self) {
        self.memory.0.sub(std::mem::take(&mut self.bytes) as i64);
    }
}

impl Drop for ReplayPermit {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_hold_no_more_than_allowed_and_give_it_back() {
        let gauge = IntGauge::new("held", "held").unwrap();
        let memory = ReplayMemory::new(gauge.clone());
        let (mut one, mut two) = (memory.share(20_000), memory.share(20_000));
        assert!(one.reaches(15_000) && one.reaches(10_000) && !two.reaches(5_001));
        assert!(two.reaches(SMALL), "a little is always kept");
        assert_eq!(gauge.get(), 15_000);
        assert!(two.reaches(5_000) && !one.reaches(15_001));
        one.give_back();
        assert!(two.reaches(20_000));
        drop(two);
        assert_eq!(gauge.get(), 0);
    }
}
