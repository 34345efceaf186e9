//! A cache over the database that never keeps what a read found before a write: whoever reads takes
//! the generation first, and an entry of an older generation is not put in.

use std::hash::Hash;

use colonnade_storage::database::metrics::CacheFigures;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

/// A cache of at most a fixed number of entries.
pub struct GenerationCache<K, V> {
    entries: Cache<K, V>,
    /// How often something was removed; held while entries come and go.
    removals: Mutex<u64>,
}

impl<K: Eq + Hash + Clone, V: Clone> GenerationCache<K, V> {
    /// Makes an empty cache.
    pub fn new(entries_max: usize) -> Self {
        Self { entries: Cache::new(entries_max), removals: Mutex::new(0) }
    }

    /// Returns an entry.
    pub fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key)
    }

    /// Returns how well the cache does.
    pub fn figures(&self, name: &'static str) -> CacheFigures {
        CacheFigures::of(name, &self.entries)
    }

    /// Returns what [`GenerationCache::insert`] wants to know from before the read.
    pub fn generation(&self) -> u64 {
        *self.removals.lock()
    }

    /// Keeps what was read since `generation`, unless something was removed meanwhile.
    pub fn insert(&self, generation: u64, key: K, value: V) {
        let removals = self.removals.lock();
        if *removals == generation {
            self.entries.insert(key, value);
        }
    }

    /// Forgets entries that were written; call it after the commit.
    pub fn remove<'k>(&self, keys: impl IntoIterator<Item = &'k K>)
    where
        K: 'k,
    {
        let mut removals = self.removals.lock();
        *removals += 1;
        for key in keys {
            self.entries.remove(key);
        }
    }

    /// Forgets the entries that were written, where only something about them is known.
    pub fn remove_where(&self, is_stale: impl Fn(&V) -> bool) {
        let mut removals = self.removals.lock();
        *removals += 1;
        self.entries.retain(|_, value| !is_stale(value));
    }

    /// Forgets everything: what was written is not known.
    pub fn clear(&self) {
        let mut removals = self.removals.lock();
        *removals += 1;
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_from_before_a_write_brings_nothing_back() {
        let cache = GenerationCache::new(10);
        let before = cache.generation();
        cache.remove([&1]);
        cache.insert(before, 1, "old");
        assert_eq!(cache.get(&1), None);
        cache.insert(cache.generation(), 1, "new");
        assert_eq!(cache.get(&1), Some("new"));
        cache.remove([&1]);
        assert_eq!(cache.get(&1), None);
    }
}
