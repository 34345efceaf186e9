//! Devices as their owners see them: names, when they were last seen. Keys are in `encryption`;
//! how a device comes to be is in `accounts`.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{DeviceId, OwnedDeviceId},
};
use colonnade_rooms::{Context, Result};
pub use colonnade_storage::users::devices::Device;
use colonnade_storage::{keys::device_lists, users::devices};

use crate::accounts::names;
use crate::accounts::{Accounts, Session, lifecycle::Gone};

/// Devices deleted by one request.
const DELETE_MAX: usize = 1_000;

/// Devices of local users.
pub struct Devices {
    context: Arc<Context>,
    accounts: Arc<Accounts>,
}

impl Devices {
    /// Sessions of devices that go are ended through `accounts`.
    pub fn new(context: Arc<Context>, accounts: Arc<Accounts>) -> Self {
        Self { context, accounts }
    }

    /// Returns the session's user's devices, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, session: &Session) -> Result<Vec<Device>> {
        self.of(session.user).await
    }

    /// Returns a user's devices, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of(&self, user: UserNid) -> Result<Vec<Device>> {
        let stored = devices::list(&self.context.db, user).await?;
        Ok(stored.into_iter().map(|device| self.with_seen(device)).collect())
    }

    /// Returns one of the session's user's devices.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such device.
    pub async fn get(&self, session: &Session, device_id: &DeviceId) -> Result<Device> {
        let stored = devices::find(&self.context.db, session.user, device_id).await?;
        let stored = stored.ok_or_else(|| MatrixError::not_found("there is no such device"))?;
        Ok(self.with_seen(stored))
    }

    /// Gives a device another name; `None` leaves it as it is.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such device, `M_TOO_LARGE` when the name is too long.
    pub async fn rename(
        &self,
        session: &Session,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<()> {
        let stored = self.get(session, device_id).await?;
        names::require_short_device_name(display_name.as_deref())?;
        if display_name.is_none() || display_name == stored.display_name {
            return Ok(());
        }
        let (user, device) = (session.user, stored.device);
        let name = [stored.device_id.to_string()];
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                devices::rename(tx, device, display_name).await?;
                device_lists::changed(tx, user, &name).await
            })
        });
        write.await?;
        Ok(())
    }

    /// Deletes devices with their tokens and keys; those that are not there are passed over.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when there are too many at a time.
    pub async fn delete(&self, session: &Session, names: &[OwnedDeviceId]) -> Result<()> {
        if names.len() > DELETE_MAX {
            let why = format!("more than {DELETE_MAX} devices at a time");
            return Err(MatrixError::invalid_param(why).into());
        }
        let all = devices::list(&self.context.db, session.user).await?;
        let gone = all.into_iter().filter(|known| names.contains(&known.device_id));
        let gone = gone.map(|known| known.device).collect();
        self.accounts.forget_devices(session.user, Gone::These(gone)).await
    }

    fn with_seen(&self, mut device: Device) -> Device {
        if let Some((ts, ip)) = self.accounts.seen.get(device.device) {
            device.last_seen_ts = Some(ts);
            device.last_seen_ip = ip.map(|ip| ip.to_string()).or(device.last_seen_ip);
        }
        device
    }
}
