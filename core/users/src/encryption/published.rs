//! What other servers are shown of users here: devices with their keys, cross-signing keys, one-time keys.
//!
//! Source: Matrix v1.19, server-server, "Device Management", "End-to-End Encryption".

use std::collections::BTreeMap;

use colonnade_federation::messaging::Claims;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{
        DeviceId, OwnedDeviceId, OwnedUserId, UserId, api::client::keys::get_keys::v3::Response,
    },
};
use colonnade_rooms::Result;
use colonnade_storage::{keys::device_lists, users::devices};
use serde_json::{Map, Value, json};

use super::{
    Encryption,
    claim::{CLAIMS_MAX, KeysOfUsers},
    query::NAMED_MAX,
};
use crate::answers::Growth;

impl Encryption {
    /// Returns the keys of users of this server, as another server may see them; of no devices means of all.
    ///
    /// # Errors
    /// `M_TOO_LARGE` when too many are named.
    pub async fn query_for_server(
        &self,
        mut wanted: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
        growth: &Growth,
    ) -> Result<Response> {
        if wanted.values().map(|devices| devices.len().max(1)).sum::<usize>() > NAMED_MAX {
            return Err(MatrixError::too_large("too many users or devices are named").into());
        }
        wanted.retain(|user, _| self.elsewhere(user).is_none());
        let mut response = Response::default();
        self.query_here(None, wanted, growth, &mut response).await?;
        Ok(response)
    }

    /// Returns all devices of a user of this server, as `user/devices` shows them.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for a user of another server or one who never was.
    pub async fn device_list(&self, user_id: &UserId, growth: &Growth) -> Result<Value> {
        let unknown = || MatrixError::not_found("no such user of this server");
        if self.elsewhere(user_id).is_some() {
            return Err(unknown().into());
        }
        let user = self.context.interned.find_user(user_id).await?.ok_or_else(unknown)?;
        // First: what changes while the rest is read is told as what follows it.
        let stream_id = device_lists::last_change(&self.context.db, user).await?;
        let wanted = BTreeMap::from([(user_id.to_owned(), Vec::new())]);
        let mut found = self.query_for_server(wanted, growth).await?;
        let keys = found.device_keys.remove(user_id).unwrap_or_default();
        let devices = devices::list(&self.context.db, user).await?;
        let devices = devices.into_iter().filter_map(|device| {
            let keys = keys.get(&device.device_id)?;
            let mut shown = json!({ "device_id": device.device_id, "keys": keys });
            if let Some(name) = device.display_name {
                shown["device_display_name"] = name.into();
            }
            Some(shown)
        });
        let devices: Vec<Value> = devices.collect();
        let mut list = json!({ "user_id": user_id, "stream_id": stream_id, "devices": devices });
        if let Some(key) = found.master_keys.remove(user_id) {
            list["master_key"] = json!(key);
        }
        if let Some(key) = found.self_signing_keys.remove(user_id) {
            list["self_signing_key"] = json!(key);
        }
        Ok(list)
    }

    /// Claims keys of devices of this server for another.
    ///
    /// # Errors
    /// `M_TOO_LARGE` when too many are asked for at once.
    pub async fn claim_for_server(&self, origin: &str, mut wanted: Claims) -> Result<KeysOfUsers> {
        if wanted.values().map(|devices| devices.len().max(1)).sum::<usize>() > CLAIMS_MAX {
            return Err(MatrixError::too_large("too many keys are claimed at once").into());
        }
        wanted.retain(|user, _| self.elsewhere(user).is_none());
        self.claim_here(origin, wanted).await
    }

    /// Makes the content of `m.device_list_update` of a device as it is now, without its numbers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_update(
        &self,
        user: UserNid,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<Map<String, Value>> {
        let mut content = Map::new();
        content.insert("user_id".to_owned(), user_id.as_str().into());
        content.insert("device_id".to_owned(), device_id.as_str().into());
        let Some(device) = devices::find(&self.context.db, user, device_id).await? else {
            content.insert("deleted".to_owned(), true.into());
            return Ok(content);
        };
        if let Some(name) = device.display_name {
            content.insert("device_display_name".to_owned(), name.into());
        }
        let mut found = self.published(user_id, vec![device_id.to_owned()]).await?;
        let keys = found.device_keys.remove(user_id).and_then(|mut keys| keys.remove(device_id));
        if let Some(keys) = keys {
            content.insert("keys".to_owned(), json!(keys));
        }
        Ok(content)
    }

    /// Makes the content of `m.signing_key_update` as the keys are now; `None` when there are none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn signing_key_update(&self, user_id: &UserId) -> Result<Option<Value>> {
        let mut found = self.published(user_id, Vec::new()).await?;
        let Some(master) = found.master_keys.remove(user_id) else { return Ok(None) };
        let mut content = json!({ "user_id": user_id, "master_key": master });
        if let Some(key) = found.self_signing_keys.remove(user_id) {
            content["self_signing_key"] = json!(key);
        }
        Ok(Some(content))
    }

    /// Returns what is shown of one user, which is bounded by what one user may keep.
    async fn published(&self, user_id: &UserId, devices: Vec<OwnedDeviceId>) -> Result<Response> {
        let wanted = BTreeMap::from([(user_id.to_owned(), devices)]);
        self.query_for_server(wanted, &Growth::from(None)).await
    }
}
