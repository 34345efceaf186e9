//! Rates and bursts.

use super::*;

const RATE: Rate = Rate { per_second: 10.0, burst: 5 };

#[test]
fn a_burst_passes_and_then_the_rate() {
    let buckets = Buckets::default();
    for _ in 0..5 {
        buckets.take("a", RATE, 1_000).unwrap();
    }
    assert_eq!(buckets.take("a", RATE, 1_000), Err(100));
    assert_eq!(buckets.take("a", RATE, 1_060), Err(40));
    buckets.take("a", RATE, 1_100).unwrap();
    assert_eq!(buckets.take("a", RATE, 1_100), Err(100));
    // Another key has its own.
    buckets.take("b", RATE, 1_100).unwrap();
    // Rest fills the bucket, but not beyond the burst.
    for _ in 0..5 {
        buckets.take("a", RATE, 60_000).unwrap();
    }
    assert!(buckets.take("a", RATE, 60_000).is_err());
}

#[test]
fn memory_is_bounded_and_old_keys_go_first() {
    let buckets = Buckets::default();
    for n in 0..3 * SHARDS * SHARD_KEYS_MAX {
        buckets.take(n, RATE, 1_000).unwrap();
    }
    let kept: usize = buckets.shards.iter().map(|shard| shard.lock().len()).sum();
    assert!(kept <= SHARDS * SHARD_KEYS_MAX);
    for _ in 0..5 {
        buckets.take("owes", RATE, 100_000).unwrap();
    }
    for n in 0..SHARDS * SHARD_KEYS_MAX / 2 {
        buckets.take(("new", n), RATE, 100_000).unwrap();
    }
    assert!(buckets.take("owes", RATE, 100_000).is_err());
}
