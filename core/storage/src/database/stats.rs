//! Figures of the database, for the metrics of the assembly: how many reads there were, how large commits
//! are, how long they take. Counting only; nothing here decides anything.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the writes in one commit; the last is `BATCH_MAX` of the writer.
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Upper bounds of a commit's duration, in seconds: from a fast disk to a failing one.
const SECONDS: [f64; 9] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0];
/// Sums are kept as integers of this fraction.
const FRACTION: f64 = 1e6;

/// Counts of values by size.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64; 9],
    /// One count per bound, and one for what is larger than all.
    counts: [AtomicU64; 10],
    sum: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64; 9]) -> Self {
        Self { bounds, counts: Default::default(), sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: f64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        self.counts[place.unwrap_or(self.bounds.len())].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * FRACTION) as u64, Ordering::Relaxed);
    }

    /// Returns each bound with the number of values up to it, the bound of the last being infinite.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut total = 0;
        let counts = self.counts.iter().map(|count| {
            total += count.load(Ordering::Relaxed);
            total
        });
        bounds.zip(counts).collect()
    }

    /// Returns the sum of all values.
    pub fn sum(&self) -> f64 {
        self.sum.load(Ordering::Relaxed) as f64 / FRACTION
    }
}

/// Figures of one database as this process uses it.
#[derive(Debug)]
pub struct Stats {
    /// Statements that were read with, outside of transactions.
    reads: AtomicU64,
    /// Writes per commit.
    pub batch_writes: Histogram,
    /// Seconds from the beginning of a commit's first write to its end on disk.
    pub commit_seconds: Histogram,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            reads: AtomicU64::new(0),
            batch_writes: Histogram::new(&SIZES),
            commit_seconds: Histogram::new(&SECONDS),
        }
    }
}

impl Stats {
    /// Returns how many statements were read with since the start.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Takes note of a read.
    pub(super) fn read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of a commit.
    pub(super) fn committed(&self, writes: usize, took: Duration) {
        self.batch_writes.observe(writes as f64);
        self.commit_seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_counted_by_size() {
        let stats = Stats::default();
        for writes in [1, 3, 1000] {
            stats.committed(writes, Duration::from_millis(2));
        }
        let counts = stats.batch_writes.cumulative();
        assert_eq!((counts[0], counts[2], counts[9]), ((1.0, 1), (4.0, 2), (f64::INFINITY, 3)));
        assert!((stats.commit_seconds.sum() - 0.006).abs() < 1e-9);
    }
}
