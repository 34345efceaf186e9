//! Slots: the fixed number of shards over which rooms and users are spread. A slot belongs to one
//! process at a time; how it gets there is `replication`'s business.

use xxhash_rust::xxh3::xxh3_64;

/// How many slots a pool has. Stored: never change it.
pub const SLOTS: u16 = 1024;

/// Returns the slot of a room id, user id, destination or media id.
pub fn slot_of(id: &str) -> u16 {
    // The remainder of a division by 1024 fits 16 bits.
    (xxh3_64(id.as_bytes()) % u64::from(SLOTS)) as u16
}
