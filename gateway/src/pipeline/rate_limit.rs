//! Rate limits: a bucket per key that fills at a steady rate and overflows at a burst (GCRA, the
//! leaky bucket as a meter). Pure: time comes in. Bounded: a fixed number of keys is remembered,
//! and the ones forgotten first are those that owe nothing.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use parking_lot::Mutex;

/// Locks are shared by keys in this many groups, so that they are not waited for.
const SHARDS: usize = 16;

/// Keys remembered in each group: 16 × 8,192 at 24 bytes are 3 MB. An attacker with more addresses
/// than that makes others' debts forgotten, never memory grow.
const SHARD_KEYS_MAX: usize = 8_192;

/// How much is allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests per second, in the long run.
    pub per_second: f64,
    /// Requests at once.
    pub burst: u32,
}

/// Buckets for one kind of key.
#[derive(Debug)]
pub struct Buckets {
    hasher: RandomState,
    /// Until when, in microseconds, each key has used up its rate.
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Default for Buckets {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: Default::default() }
    }
}

impl Buckets {
    /// Takes one request of a key.
    ///
    /// # Errors
    /// When the key has no request left: in how many milliseconds it will have one.
    pub fn take(&self, key: impl Hash, rate: Rate, now_ms: u64) -> Result<(), u64> {
        let key = self.hasher.hash_one(key);
        let now = now_ms * 1_000;
        let each = (1_000_000.0 / rate.per_second.max(0.001)) as u64;
        let allowed = each * u64::from(rate.burst.max(1));
        let mut shard = self.shards[key as usize % SHARDS].lock();
        let used_until = shard.get(&key).copied().unwrap_or(0).max(now);
        let after = used_until + each;
        if after > now + allowed {
            return Err((after - now - allowed).div_ceil(1_000));
        }
        if shard.len() >= SHARD_KEYS_MAX && !shard.contains_key(&key) {
            shard.retain(|_, until| *until > now);
            if shard.len() >= SHARD_KEYS_MAX {
                shard.clear();
            }
        }
        shard.insert(key, after);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
