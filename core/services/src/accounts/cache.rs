//! Sessions in memory, by the hash of their access token. A session is never put back by a read
//! that began before it was removed.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use colonnade_storage::sessions::TokenHash;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::Session;

/// Sessions kept in memory, about 300 bytes each; one per device that is in use at the same time.
const CACHED_MAX: usize = 50_000;
/// How often a device in use is noted as seen, in milliseconds: nobody reads it to the second.
const SEEN_EVERY_MS: i64 = 60_000;

/// A session and what has to be checked each time.
pub(super) struct Cached {
    pub(super) session: Session,
    /// When the access token expires; `None` for never.
    pub(super) expires_ts: Option<i64>,
    noted_ms: AtomicI64,
}

impl Cached {
    pub(super) fn new(session: Session, expires_ts: Option<i64>) -> Self {
        Self { session, expires_ts, noted_ms: AtomicI64::new(0) }
    }

    /// Tells whether it is time to note again that the device was seen; true once per interval.
    pub(super) fn is_news(&self, now_ms: i64) -> bool {
        let noted_ms = self.noted_ms.load(Ordering::Relaxed);
        let due = now_ms.saturating_sub(noted_ms) >= SEEN_EVERY_MS;
        let swap = |from| {
            self.noted_ms.compare_exchange(from, now_ms, Ordering::Relaxed, Ordering::Relaxed)
        };
        due && swap(noted_ms).is_ok()
    }
}

/// The sessions in use.
pub(super) struct SessionCache {
    entries: Cache<TokenHash, Arc<Cached>>,
    /// How often something was removed; held while entries come and go.
    removals: Mutex<u64>,
}

impl Default for SessionCache {
    fn default() -> Self {
        Self { entries: Cache::new(CACHED_MAX), removals: Mutex::new(0) }
    }
}

impl SessionCache {
    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Cached>> {
        self.entries.get(hash)
    }

    /// Returns what [`SessionCache::insert`] wants to know from before the read.
    pub(super) fn generation(&self) -> u64 {
        *self.removals.lock()
    }

    /// Remembers a session read since `generation`, unless something was removed meanwhile.
    pub(super) fn insert(&self, generation: u64, hash: TokenHash, cached: Arc<Cached>) {
        let removals = self.removals.lock();
        if *removals == generation {
            self.entries.insert(hash, cached);
        }
    }

    /// Forgets sessions that were revoked; call it after the commit.
    pub(super) fn remove(&self, hashes: &[TokenHash]) {
        let mut removals = self.removals.lock();
        *removals += 1;
        for hash in hashes {
            self.entries.remove(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::{DeviceNid, UserNid},
        ruma::user_id,
    };

    use super::*;

    fn cached() -> Arc<Cached> {
        let session = Session {
            user_id: user_id!("@alice:localhost").to_owned(),
            user: UserNid(1),
            device_id: "DEVICE".into(),
            device: DeviceNid(1),
        };
        Arc::new(Cached::new(session, None))
    }

    #[test]
    fn a_read_from_before_a_removal_brings_nothing_back() {
        let cache = SessionCache::default();
        let before = cache.generation();
        cache.remove(&[[1; 32]]);
        cache.insert(before, [1; 32], cached());
        assert!(cache.get(&[1; 32]).is_none());
        cache.insert(cache.generation(), [1; 32], cached());
        assert!(cache.get(&[1; 32]).is_some());
        cache.remove(&[[1; 32]]);
        assert!(cache.get(&[1; 32]).is_none());
    }

    #[test]
    fn a_device_is_news_once_a_minute() {
        let cached = cached();
        assert!(cached.is_news(1_000_000));
        assert!(!cached.is_news(1_059_999));
        assert!(cached.is_news(1_060_000));
    }
}
