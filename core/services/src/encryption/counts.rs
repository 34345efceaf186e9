//! What a device is told about how many of its keys are left.

use std::collections::BTreeMap;

use colonnade_model::{
    nid::DeviceNid,
    ruma::{OneTimeKeyAlgorithm, UInt},
};

use super::Encryption;
use crate::Result;

impl Encryption {
    /// Forgets how many keys a device has, or all devices have (`None`): another process wrote.
    pub(crate) fn forget_counts(&self, device: Option<DeviceNid>) {
        match device {
            Some(device) => self.counts.forget(&[device]),
            None => self.counts.clear(),
        }
    }

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
