//! The digest of a whole state: equal states have equal digests, found without comparing them.
//!
//! A keyed multiset hash: the sum, modulo 2^128, of a keyed hash of each entry. A change costs
//! one hash per entry added or removed, whatever the size of the state. The key is a secret of
//! this server, so nobody outside can look for two states with one digest.

use colonnade_model::nid::{EventNid, StateKeyNid};

/// The secret all digests of one database are made with.
#[derive(Clone)]
pub struct DigestKey([u8; 32]);

impl DigestKey {
    /// Wraps 32 random bytes, which must stay the same for the life of the database.
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    fn entry(&self, state_key_nid: StateKeyNid, event: EventNid) -> u128 {
        let mut entry = [0; 16];
        entry[..8].copy_from_slice(&state_key_nid.0.to_le_bytes());
        entry[8..].copy_from_slice(&event.0.to_le_bytes());
        let hash = blake3::keyed_hash(&self.0, &entry);
        let (head, _) = hash.as_bytes().split_at(16);
        head.iter().rev().fold(0, |sum, &byte| sum << 8 | u128::from(byte))
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DigestKey(..)")
    }
}

/// The digest of a state, both tries together; 16 bytes, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// The digest of the state without entries.
    pub const EMPTY: Self = Self([0; 16]);

    /// Returns the digest with the entry added. Adding an entry twice is not adding it once.
    pub fn add(self, key: &DigestKey, state_key_nid: StateKeyNid, event: EventNid) -> Self {
        let sum = u128::from_le_bytes(self.0).wrapping_add(key.entry(state_key_nid, event));
        Self(sum.to_le_bytes())
    }

    /// Returns the digest with an entry it contains taken away.
    pub fn remove(self, key: &DigestKey, state_key_nid: StateKeyNid, event: EventNid) -> Self {
        let sum = u128::from_le_bytes(self.0).wrapping_sub(key.entry(state_key_nid, event));
        Self(sum.to_le_bytes())
    }
}
