//! Claiming one-time keys: each is handed out at most once.
//!
//! Source: Matrix v1.19, client-server, `POST /keys/claim`.

use std::collections::{BTreeMap, HashMap};

use colonnade_federation::messaging::Claims;
use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, UserNid},
    ruma::{
        OneTimeKeyAlgorithm, OneTimeKeyId, OwnedDeviceId, OwnedUserId,
        api::client::keys::claim_keys::v3::{OneTimeKeys, Request, Response},
        serde::Raw,
    },
};
use colonnade_rooms::Result;
use colonnade_storage::{
    StorageError,
    delivery::to_device,
    keys::encryption::one_time_keys::{self, OneTimeKey, Supply},
};

use super::{Encryption, elsewhere::WITHIN};
use crate::limits::{Class, Key};

/// Keys claimed in one transaction, so that a claim for a large room does not hold the writer long.
const BATCH: usize = 100;
/// Keys claimed by one request: every device of a large room.
pub(super) const CLAIMS_MAX: usize = 20_000;

/// Claimed keys, by users.
pub(super) type KeysOfUsers = BTreeMap<OwnedUserId, OneTimeKeys>;

/// One key that is asked for.
#[derive(Debug, Clone)]
struct KeyClaim {
    user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    device: DeviceNid,
    algorithm: OneTimeKeyAlgorithm,
    supply: Supply,
}

impl Encryption {
    /// Hands out one key for each device asked for. Unknown devices are left out.
    ///
    /// A user who claims many of one device gets its fallback key, which is not used up: nobody can
    /// take away the keys that others need.
    ///
    /// # Errors
    /// `M_TOO_LARGE` when too many are asked for at once.
    pub async fn claim(&self, session: &Session, request: Request) -> Result<Response> {
        let mut response = Response { failures: BTreeMap::new(), one_time_keys: BTreeMap::new() };
        // Also who exists nowhere has to be looked for.
        let named = request.one_time_keys.values().map(|devices| devices.len().max(1));
        let count: usize = named.sum();
        if count > CLAIMS_MAX {
            return Err(MatrixError::too_large("too many keys are claimed at once").into());
        }
        let within = request.timeout.map_or(WITHIN.1, |within| within.min(WITHIN.0));
        let (elsewhere, here): (Claims, Claims) = request
            .one_time_keys
            .into_iter()
            .partition(|(user_id, _)| self.elsewhere(user_id).is_some());
        response.one_time_keys = self.claim_here(&session.user.to_string(), here).await?;
        let (claimed, failures) = self.claim_elsewhere(elsewhere, within).await?;
        response.failures = failures;
        for (user_id, devices) in claimed {
            let devices = devices.into_iter().filter_map(|(device_id, keys)| {
                // What is no map of keys is passed over.
                Some((device_id, serde_json::from_str(keys.get()).ok()?))
            });
            response.one_time_keys.insert(user_id, devices.collect());
        }
        Ok(response)
    }

    /// Hands out keys of devices of this server to somebody.
    pub(super) async fn claim_here(&self, claimant: &str, here: Claims) -> Result<KeysOfUsers> {
        let mut keys = KeysOfUsers::new();
        let mut wanted = self.find_devices(here.into_iter().collect()).await?;
        for wanted in &mut wanted {
            let key = Key::name(&format!("{claimant} claims of {}", wanted.device));
            let is_within = self.limits.check(Class::Claim, key).is_ok();
            wanted.supply = if is_within { Supply::OneTime } else { Supply::Fallback };
        }
        for batch in wanted.chunks(BATCH) {
            let claimed = self.claim_batch(batch).await?;
            for (wanted, key) in batch.iter().zip(claimed) {
                if let Some(key) = key {
                    insert(&mut keys, wanted, key)?;
                }
            }
        }
        Ok(keys)
    }

    /// Finds the devices asked for, in the order of their local ids: claims that run at the same
    /// time then take their rows in the same order and cannot wait for each other in a circle.
    async fn find_devices(
        &self,
        local: Vec<(OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>)>,
    ) -> Result<Vec<KeyClaim>> {
        let known: HashMap<OwnedUserId, UserNid> = {
            let named = local.iter().map(|(user_id, _)| &**user_id);
            let known = self.context.interned.find_users(named).await?;
            known.into_iter().map(|(user_id, nid)| (user_id.to_owned(), nid)).collect()
        };
        let mut users = HashMap::with_capacity(known.len());
        for (user_id, devices) in local {
            if let Some(user) = known.get(&user_id) {
                users.insert(*user, (user_id, devices));
            }
        }
        let nids: Vec<_> = users.keys().copied().collect();
        let mut wanted = Vec::new();
        for device in to_device::devices_of(&self.context.db, &nids).await? {
            let Some((user_id, devices)) = users.get_mut(&device.user) else { continue };
            let device_id = OwnedDeviceId::from(device.device_id);
            let Some(algorithm) = devices.remove(&device_id) else { continue };
            let user_id = user_id.clone();
            let (device, supply) = (device.device, Supply::OneTime);
            wanted.push(KeyClaim { user_id, device_id, device, algorithm, supply });
        }
        wanted.sort_by_key(|wanted| wanted.device);
        Ok(wanted)
    }

    async fn claim_batch(&self, batch: &[KeyClaim]) -> Result<Vec<Option<OneTimeKey>>> {
        let devices: Vec<DeviceNid> = batch.iter().map(|wanted| wanted.device).collect();
        let asked = batch.iter().map(|w| (w.device, w.algorithm.to_string(), w.supply));
        let asked: Vec<_> = asked.collect();
        let claimed = self.context.db.write(move |tx| {
            Box::pin(async move {
                let mut claimed = Vec::with_capacity(asked.len());
                let mut touched = Vec::with_capacity(asked.len());
                for (device, algorithm, supply) in asked {
                    let key = one_time_keys::claim(tx, device, &algorithm, supply).await?;
                    if key.is_some() {
                        touched.push(device);
                    }
                    claimed.push(key);
                }
                to_device::wake(tx, &touched).await?;
                Ok(claimed)
            })
        });
        let claimed = claimed.await;
        self.counts.forget(&devices);
        Ok(claimed?)
    }
}

fn insert(
    keys: &mut BTreeMap<OwnedUserId, OneTimeKeys>,
    wanted: &KeyClaim,
    key: OneTimeKey,
) -> Result<()> {
    let corrupt = |why: String| {
        StorageError::corrupt("one_time_keys", "key", format!("device {}", wanted.device), why)
    };
    let key_id = format!("{}:{}", key.algorithm, key.key_id);
    let key_id = OneTimeKeyId::parse(key_id).map_err(|error| corrupt(error.to_string()))?;
    let raw = Raw::from_json_string(key.key).map_err(|error| corrupt(error.to_string()))?;
    keys.entry(wanted.user_id.clone())
        .or_default()
        .entry(wanted.device_id.clone())
        .or_default()
        .insert(key_id, raw);
    Ok(())
}
