//! How well caches do, for the metrics of the assembly.

use std::hash::Hash;

use quick_cache::{Weighter, sync::Cache};

/// The figures of one cache since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheFigures {
    /// The cache's name in metrics.
    pub name: &'static str,
    /// Questions it could answer.
    pub hits: u64,
    /// Questions it could not answer.
    pub misses: u64,
    /// What it holds now, in entries.
    pub entries: usize,
}

impl CacheFigures {
    /// Reads the figures of a cache.
    pub fn of<K: Eq + Hash, V: Clone, W: Weighter<K, V> + Clone>(
        name: &'static str,
        cache: &Cache<K, V, W>,
    ) -> Self {
        Self { name, hits: cache.hits(), misses: cache.misses(), entries: cache.len() }
    }
}
