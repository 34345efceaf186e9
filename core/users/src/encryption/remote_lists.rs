//! Device lists of users of other servers that are kept: fetched whole, then changed as their server says. Where it
//! says that something came between, or nothing is kept yet, the whole list is asked for again.
//!
//! Source: Matrix v1.19, server-server, "Device Management".

use std::{sync::Arc, time::Duration};

use colonnade_federation::messaging::{DeviceListSnapshot, MessagingError};
use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedDeviceId, OwnedUserId, UserId},
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::{
    Tx,
    error::Result as StorageResult,
    keys::{
        device_lists,
        encryption::cross_signing::{self, CrossSigningKey, Usage},
        remote_devices::{self, Applied, RemoteChange, RemoteDevice, Replaced},
    },
    rooms::servers,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Encryption, cross_signing::remote_key, upload::DEVICE_KEYS_BYTES_MAX};

/// Devices of one user of another server.
const DEVICES_MAX: usize = 2_000;
/// Bytes of the name of a device, and of what people call it.
const NAME_BYTES_MAX: usize = 512;
/// How long a server may take for a list when nobody waits.
const RESYNC: Duration = Duration::from_secs(30);
/// Lists that wait for that; further ones are asked for when somebody wants them.
const RESYNCS_MAX: usize = 1_000;
/// How often a list is asked for again because something happened meanwhile.
const TRIES_MAX: usize = 3;

/// The content of `m.device_list_update`.
#[derive(Debug, Deserialize)]
pub struct DeviceListUpdate {
    /// Whose device.
    pub user_id: OwnedUserId,
    device_id: OwnedDeviceId,
    #[serde(default)]
    device_display_name: Option<String>,
    stream_id: i64,
    #[serde(default)]
    prev_id: Vec<i64>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    keys: Option<Box<RawValue>>,
}

/// The content of `m.signing_key_update`.
#[derive(Debug, Deserialize)]
pub struct SigningKeyUpdate {
    /// Whose keys.
    pub user_id: OwnedUserId,
    #[serde(default)]
    master_key: Option<Box<RawValue>>,
    #[serde(default)]
    self_signing_key: Option<Box<RawValue>>,
}

impl Encryption {
    /// Asks for a user's device list and keeps it. Whoever has to is told of what is news in it.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub(super) async fn fetch_list(
        &self,
        user_id: &UserId,
        user: UserNid,
        within: Duration,
    ) -> Result<Replaced, MessagingError> {
        let here = |error| MessagingError::Here(Error::from(error));
        let db = &self.context.db;
        let generation = remote_devices::begin(db, user).await.map_err(here)?;
        let snapshot = self.messaging.device_list(user_id, within).await?;
        let DeviceListSnapshot { stream_id, mut devices, master_key, self_signing_key } = snapshot;
        devices.truncate(DEVICES_MAX);
        let devices = devices.into_iter().filter_map(|device| {
            let keys = device.keys.as_deref();
            remote_device(user_id, &device.device_id, device.device_display_name, keys)
        });
        let devices: Vec<RemoteDevice> = devices.collect();
        let keys = signing_keys(user_id, user, master_key.as_deref(), self_signing_key.as_deref());
        let write = db.write(move |tx| {
            Box::pin(async move {
                let keys_changed = put_signing_keys(tx, user, keys).await?;
                let mut replaced =
                    remote_devices::replace(tx, user, generation, stream_id, devices).await?;
                replaced.is_news |= keys_changed;
                if replaced.is_news {
                    device_lists::changed(tx, user, &[]).await?;
                }
                Ok(replaced)
            })
        });
        write.await.map_err(here)
    }

    /// Takes what another server says of a device of a user of it, who is in a room with somebody here. That it speaks
    /// for the user is the caller's to know.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_changed(
        self: &Arc<Self>,
        user: UserNid,
        update: DeviceListUpdate,
    ) -> Result<()> {
        if servers::sharing(&self.context.db, &[user]).await?.is_empty() {
            return Ok(());
        }
        let DeviceListUpdate { user_id, device_id, device_display_name, stream_id, .. } = update;
        let device = match update.deleted {
            true => Some(Err(device_id.to_string())),
            false => {
                let keys = update.keys.as_deref();
                remote_device(&user_id, &device_id, device_display_name, keys).map(Ok)
            }
        };
        let Some(device) = device else { return Ok(()) };
        let change = RemoteChange { user, stream_id, prev_ids: update.prev_id, device };
        let apply = self.context.db.write(move |tx| {
            Box::pin(async move {
                let applied = remote_devices::apply(tx, change).await?;
                if applied == Applied::Taken {
                    device_lists::changed(tx, user, &[]).await?;
                }
                Ok(applied)
            })
        });
        // Clients hear of it once the list is whole, or is not to be had.
        if apply.await? == Applied::Missing && !self.resync_later(user_id, user) {
            self.tell_of(user).await?;
        }
        Ok(())
    }

    /// Tells those who share a room with a user to look at his keys again.
    async fn tell_of(&self, user: UserNid) -> Result<()> {
        let tell = self.context.db.write(move |tx| {
            Box::pin(async move { device_lists::changed(tx, user, &[]).await.map(drop) })
        });
        Ok(tell.await?)
    }

    /// Takes new cross-signing keys of a user of another server, as [`Encryption::device_changed`] does. Some servers
    /// (Dendrite) say the keys again when one of the user's devices was signed with them, and nothing of the device: so
    /// the list is asked for again before anybody is told of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_keys_changed(
        &self,
        user: UserNid,
        update: SigningKeyUpdate,
    ) -> Result<()> {
        if servers::sharing(&self.context.db, &[user]).await?.is_empty() {
            return Ok(());
        }
        let SigningKeyUpdate { user_id, master_key, self_signing_key } = update;
        let keys = signing_keys(&user_id, user, master_key.as_deref(), self_signing_key.as_deref());
        if keys.is_empty() {
            return Ok(());
        }
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                put_signing_keys(tx, user, keys).await?;
                remote_devices::doubt(tx, &[user]).await?;
                device_lists::changed(tx, user, &[]).await
            })
        });
        write.await?;
        Ok(())
    }

    /// Asks for a list without letting anybody wait, once at a time for each user; says whether it will.
    fn resync_later(self: &Arc<Self>, user_id: OwnedUserId, user: UserNid) -> bool {
        {
            let mut resyncing = self.resyncing.lock();
            if resyncing.contains(&user) {
                return true;
            }
            if resyncing.len() >= RESYNCS_MAX {
                return false;
            }
            resyncing.insert(user);
        }
        let encryption = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = encryption.resyncs.acquire().await;
            let mut is_told = false;
            for _ in 0..TRIES_MAX {
                match encryption.fetch_list(&user_id, user, RESYNC).await {
                    Ok(Replaced { is_whole, is_news }) => {
                        is_told |= is_news;
                        if is_whole {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%user_id, %error, "a device list is not to be had now");
                        break;
                    }
                }
            }
            if !is_told && let Err(error) = encryption.tell_of(user).await {
                tracing::warn!(%user_id, %error, "nobody is told of a device list");
            }
            encryption.resyncing.lock().remove(&user);
        });
        true
    }
}

/// Checks a device that another server names. What its keys are worth is for clients to see.
fn remote_device(
    user_id: &UserId,
    device_id: &OwnedDeviceId,
    display_name: Option<String>,
    keys: Option<&RawValue>,
) -> Option<RemoteDevice> {
    #[derive(Deserialize)]
    struct Named {
        user_id: Option<OwnedUserId>,
        device_id: Option<OwnedDeviceId>,
    }
    let device = device_id.to_string();
    if device.is_empty() || device.len() > NAME_BYTES_MAX {
        return None;
    }
    let keys = keys.filter(|keys| keys.get().len() <= DEVICE_KEYS_BYTES_MAX);
    let keys = keys.filter(|keys| {
        serde_json::from_str::<Named>(keys.get()).is_ok_and(|named| {
            named.user_id.is_none_or(|named| named == user_id)
                && named.device_id.is_none_or(|named| named == *device_id)
        })
    });
    Some(RemoteDevice {
        device_id: device,
        display_name: display_name.filter(|name| name.len() <= NAME_BYTES_MAX),
        keys: keys.map(|keys| keys.get().to_owned()),
    })
}

/// Reads the cross-signing keys that another server names: those that have the form.
fn signing_keys(
    user_id: &UserId,
    user: UserNid,
    master: Option<&RawValue>,
    self_signing: Option<&RawValue>,
) -> Vec<CrossSigningKey> {
    let given = [(Usage::Master, master), (Usage::SelfSigning, self_signing)];
    let keys = given.into_iter().filter_map(|(usage, raw)| {
        let (public_key, key) = remote_key(user_id, usage, raw?)
            .inspect_err(|error| tracing::debug!(%user_id, %error, "a cross-signing key is no key"))
            .ok()?;
        Some(CrossSigningKey { user, usage, public_key, key })
    });
    keys.collect()
}

/// Keeps cross-signing keys, and tells whether they are others than those that were kept.
async fn put_signing_keys(
    tx: &mut Tx,
    user: UserNid,
    keys: Vec<CrossSigningKey>,
) -> StorageResult<bool> {
    let stored = cross_signing::of_user(tx, user).await?;
    let given = |usage| keys.iter().find(|key| key.usage == usage);
    let is_stored = |key: &CrossSigningKey| {
        stored.iter().any(|old| old.usage == key.usage && old.public_key == key.public_key)
    };
    let mut changed = keys.iter().any(|key| !stored.contains(key));
    // Signed by the old master key: worth nothing under the new one.
    if given(Usage::Master).is_some_and(|master| !is_stored(master))
        && given(Usage::SelfSigning).is_none()
    {
        cross_signing::delete(tx, user, Usage::SelfSigning).await?;
        changed = true;
    }
    for key in keys {
        cross_signing::put(tx, key).await?;
    }
    Ok(changed)
}
