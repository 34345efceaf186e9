//! The key this server signs with. The operator may replace it while the server runs (core's `signing_keys.rs`).

use std::sync::Arc;

use colonnade_model::ruma::signatures::Ed25519KeyPair;
use parking_lot::RwLock;

/// The key this server signs with now.
pub struct SigningKey(RwLock<Arc<Ed25519KeyPair>>);

impl SigningKey {
    /// Begins with a key.
    pub fn new(key: Ed25519KeyPair) -> Self {
        Self(RwLock::new(Arc::new(key)))
    }

    /// Returns the key to sign with. It is asked for each time, and not kept.
    pub fn current(&self) -> Arc<Ed25519KeyPair> {
        Arc::clone(&self.0.read())
    }

    /// Signs with another key from now on.
    pub fn replace(&self, key: Ed25519KeyPair) {
        *self.0.write() = Arc::new(key);
    }
}
