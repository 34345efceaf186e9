//! What a device is told about how many of its keys are left.

use std::collections::BTreeMap;

use colonnade_model::{
    nid::DeviceNid,
    ruma::{OneTimeKeyAlgorithm, UInt},
    stream::{Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use colonnade_rooms::Result;

use super::Encryption;

impl Encryption {
    /// Returns how many unclaimed one-time keys a device has of each algorithm.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn one_time_key_counts(
        &self,
        device: DeviceNid,
    ) -> Result<BTreeMap<OneTimeKeyAlgorithm, UInt>> {
        Ok(self.counts.get(&self.context.db, device).await?.one_time.clone())
    }

    /// Returns the algorithms for which a device has a fallback key that was not handed out yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unused_fallback_key_types(
        &self,
        device: DeviceNid,
    ) -> Result<Vec<OneTimeKeyAlgorithm>> {
        Ok(self.counts.get(&self.context.db, device).await?.unused_fallback.clone())
    }
}

/// Forgets counts of keys that another process changed.
impl Subscriber for Encryption {
    fn advanced(&self, advance: &StreamAdvance) {
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::Stale(device), _) => self.counts.forget(&[*device]),
                (Touch::Anybody, Stream::ToDevice) => self.counts.clear(),
                _ => {}
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.counts.clear();
    }
}
