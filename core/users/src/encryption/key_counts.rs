//! How many keys a device has left, as every sync answer tells it: kept in memory, dropped by each
//! write that changes it.
//!
//! Invariant: an entry read before a write was committed is never stored after it. Every write
//! raises the generation once it is committed; a reader stores only what it read in the generation
//! it began in.

use std::{collections::BTreeMap, sync::Arc};

use colonnade_model::{
    nid::DeviceNid,
    ruma::{OneTimeKeyAlgorithm, UInt},
};
use colonnade_rooms::Result;
use colonnade_storage::{Database, keys::encryption::one_time_keys};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

/// Devices kept in memory; about 200 bytes each.
const CACHED_MAX: usize = 50_000;

/// What a device is told about its keys.
#[derive(Debug, Default)]
pub(super) struct KeyCounts {
    pub(super) one_time: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    pub(super) unused_fallback: Vec<OneTimeKeyAlgorithm>,
}

/// The counts in memory.
pub(super) struct Counts {
    cache: Cache<DeviceNid, Arc<KeyCounts>>,
    generation: Mutex<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { cache: Cache::new(CACHED_MAX), generation: Mutex::new(0) }
    }
}

impl Counts {
    /// Forgets devices whose keys were changed; call it after the commit.
    pub(super) fn forget(&self, devices: &[DeviceNid]) {
        let mut generation = self.generation.lock();
        *generation += 1;
        for device in devices {
            self.cache.remove(device);
        }
    }

    /// Forgets all devices.
    pub(super) fn clear(&self) {
        let mut generation = self.generation.lock();
        *generation += 1;
        self.cache.clear();
    }

    pub(super) async fn get(&self, db: &Database, device: DeviceNid) -> Result<Arc<KeyCounts>> {
        if let Some(counts) = self.cache.get(&device) {
            return Ok(counts);
        }
        let began = *self.generation.lock();
        let counts = Arc::new(read(db, device).await?);
        let generation = self.generation.lock();
        if *generation == began {
            self.cache.insert(device, Arc::clone(&counts));
        }
        Ok(counts)
    }
}

async fn read(db: &Database, device: DeviceNid) -> Result<KeyCounts> {
    let mut counts = KeyCounts::default();
    // Clients upload more only when they are told a number: none left has to be said as 0.
    counts.one_time.insert(OneTimeKeyAlgorithm::SignedCurve25519, UInt::MIN);
    for (algorithm, count) in one_time_keys::counts(db, device).await? {
        let count = UInt::try_from(count).unwrap_or(UInt::MAX);
        counts.one_time.insert(algorithm.into(), count);
    }
    let unused = one_time_keys::unused_fallback(db, device).await?;
    counts.unused_fallback = unused.into_iter().map(Into::into).collect();
    Ok(counts)
}
