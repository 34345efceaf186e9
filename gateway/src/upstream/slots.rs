//! The slot map: which workers live, and which of them owns which share of a pool's keys, as the
//! workers themselves publish it (docs/decisions/0013-slot-map.md). Parsing and looking up only;
//! `slot_watcher.rs` asks for it, `pipeline/active_config.rs` puts it in force.
//!
//! A map is a hint: a request that meets the wrong worker is forwarded or answered 421.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{Config, POOL_WORKERS_MAX, PoolConfig, SlotRange, WorkerAddr};
use crate::routing::routes::KeyKind;

/// What a worker answers, before it does any work, when another one owns what is asked for.
pub const NOT_OWNER_STATUS: u16 = 421;

/// The header in which it may say who does: a worker's address as the pool lists it.
pub const OWNER_HEADER: &str = "x-colonnade-owner";

/// The header that tells the epoch of the map by which it knows; and in a request, the epoch of the map
/// by which the gateway chose the worker, with the map's proof behind it. Clients cannot send it.
pub const EPOCH_HEADER: &str = "x-colonnade-epoch";

/// The largest map read, in bytes: fifty workers with scattered slots have 10 kB.
pub const MAP_BYTES_MAX: usize = 4 << 20;

/// The hash we know. A map with another one tells us the workers, not their slots.
const HASH: &str = "xxh3";

/// The slots we know.
const SLOTS: u32 = 1024;

/// The longest proof, in bytes: workers give 64.
const PROOF_BYTES_MAX: usize = 256;

/// The characters of the hint in an access token: 32, so that two name one of 1024 slots.
const HINT_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A map as it stands in the document.
#[derive(Debug, Deserialize)]
struct Document {
    epoch: u64,
    slots: u32,
    hash: String,
    workers: Vec<Worker>,
    #[serde(default)]
    owners: BTreeMap<String, Vec<(u32, u32, u64)>>,
    #[serde(default)]
    proof: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Worker {
    incarnation: u64,
    pool: String,
    address: String,
    state: WorkerState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WorkerState {
    Live,
    Draining,
}

impl Document {
    fn epoch_header(&self) -> Result<Option<String>, SlotMapError> {
        let Some(proof) = &self.proof else { return Ok(None) };
        // It is written into requests as it is.
        let plain = !proof.is_empty() && proof.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !plain || proof.len() > PROOF_BYTES_MAX {
            return Err(SlotMapError::Wrong("its proof is no word".to_owned()));
        }
        Ok(Some(format!("{EPOCH_HEADER}: {} {proof}\r\n", self.epoch)))
    }
}

/// Why a document is no map.
#[derive(Debug, thiserror::Error)]
pub enum SlotMapError {
    /// It is no JSON, or something is missing.
    #[error("not a slot map")]
    Json(#[from] serde_json::Error),
    /// It contradicts itself.
    #[error("a slot map that is wrong: {0}")]
    Wrong(String),
}

/// What the map says about one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappedPool {
    /// Workers that take everything, in the order of the document.
    pub live: Vec<WorkerAddr>,
    /// Workers that keep the slots they still own, and get nothing else.
    pub draining: Vec<WorkerAddr>,
    /// Who owns which slots, ascending.
    pub owners: Vec<SlotRange>,
}

/// A map that does not contradict itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    /// Counts up with every change.
    pub epoch: u64,
    /// The header line that tells a worker by which map it was chosen, if workers look at it. Others
    /// than who may read the map do not know it.
    pub epoch_header: Option<String>,
    pools: HashMap<String, MappedPool>,
}

impl SlotMap {
    /// Reads a document.
    ///
    /// # Errors
    /// [`SlotMapError`] says what is wrong with it; nothing of it is used then.
    pub fn parse(json: &[u8]) -> Result<Self, SlotMapError> {
        let document: Document = serde_json::from_slice(json)?;
        let wrong = |why: String| SlotMapError::Wrong(why);
        let epoch_header = document.epoch_header()?;
        let mut pools: HashMap<String, MappedPool> = HashMap::new();
        let mut addresses: HashMap<(&str, u64), WorkerAddr> = HashMap::new();
        for worker in &document.workers {
            let address: WorkerAddr = worker.address.parse().map_err(wrong)?;
            let known = pools.entry(worker.pool.clone()).or_default();
            if known.live.contains(&address) || known.draining.contains(&address) {
                return Err(wrong(format!("{address} is listed twice in {}", worker.pool)));
            }
            match worker.state {
                WorkerState::Live => known.live.push(address.clone()),
                WorkerState::Draining => known.draining.push(address.clone()),
            }
            if known.live.len() + known.draining.len() > POOL_WORKERS_MAX {
                return Err(wrong(format!("{} has too many workers", worker.pool)));
            }
            if addresses.insert((&worker.pool, worker.incarnation), address).is_some() {
                let number = worker.incarnation;
                return Err(wrong(format!("incarnation {number} stands twice in {}", worker.pool)));
            }
        }
        if document.slots != SLOTS || document.hash != HASH {
            return Ok(Self { epoch: document.epoch, epoch_header, pools });
        }
        for (pool, ranges) in &document.owners {
            let mut owners = Vec::with_capacity(ranges.len());
            let mut before = 0;
            for &(first, end, incarnation) in ranges {
                if first < before || end <= first || end > SLOTS {
                    return Err(wrong(format!("[{first}, {end}) of {pool} is no range here")));
                }
                before = end;
                let owner = addresses.get(&(pool.as_str(), incarnation)).ok_or_else(|| {
                    wrong(format!("{incarnation} owns slots of {pool}, but is not listed"))
                })?;
                owners.push(SlotRange { first, end, owner: owner.clone() });
            }
            pools.entry(pool.clone()).or_default().owners = owners;
        }
        Ok(Self { epoch: document.epoch, epoch_header, pools })
    }

    /// What the map says about a pool; nothing when it does not know the pool.
    pub fn pool(&self, name: &str) -> Option<&MappedPool> {
        self.pools.get(name)
    }

    /// Every worker of the map, each once.
    pub fn workers(&self) -> Vec<WorkerAddr> {
        let pools = self.pools.values();
        let mut all: Vec<WorkerAddr> =
            pools.flat_map(|pool| pool.live.iter().chain(&pool.draining)).cloned().collect();
        all.sort();
        all.dedup();
        all
    }
}

/// The pools as they are to be run: those that discover their workers have those of the map.
pub fn pools_with(config: &Config, map: Option<&SlotMap>) -> Vec<PoolConfig> {
    let with = |pool: &PoolConfig| {
        let Some(map) = map.filter(|_| pool.discover) else { return pool.clone() };
        let mapped = map.pool(&pool.name).cloned().unwrap_or_default();
        PoolConfig {
            workers: mapped.live.into_iter().map(|address| (address, 1)).collect(),
            leaving: mapped.draining,
            owners: mapped.owners,
            ..pool.clone()
        }
    };
    config.pools.iter().map(with).collect()
}

/// The slot of a key, where it has one: rooms by their id; users by their id, or by the two
/// characters in their token that name it.
pub fn slot_of(kind: KeyKind, key: &[u8]) -> Option<u32> {
    match (kind, key) {
        (KeyKind::Room, _) => Some(hashed(key)),
        (KeyKind::User, [b'@', ..]) => Some(hashed(key)),
        (KeyKind::User, [high, low]) => {
            let digit = |byte: &u8| HINT_ALPHABET.iter().position(|known| known == byte);
            Some(digit(high)? as u32 * 32 + digit(low)? as u32)
        }
        _ => None,
    }
}

fn hashed(key: &[u8]) -> u32 {
    // The remainder of a division by 1024 fits 32 bits.
    (xxh3_64(key) % u64::from(SLOTS)) as u32
}

#[cfg(test)]
mod tests;
