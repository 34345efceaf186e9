//! Looking keys up: everything that was uploaded, with the signatures the asking user may see.
//!
//! Source: Matrix v1.19, client-server, `POST /keys/query`.

use std::collections::{BTreeMap, HashMap};

use colonnade_federation::messaging::QueriedKeys;
use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, UserNid},
    ruma::{
        OwnedDeviceId, OwnedUserId,
        api::client::keys::get_keys::v3::{Request, Response},
        encryption::CrossSigningKey,
        serde::Raw,
    },
};
use colonnade_rooms::Result;
use colonnade_storage::{
    StorageError,
    keys::{
        encryption::{
            cross_signing::{self, Usage},
            device_keys::{self, DeviceKeys, NamedDeviceKeys, Signature},
        },
        remote_devices,
    },
};
use serde_json::{Map, Value, json};

use super::{
    Encryption,
    elsewhere::{WITHIN, Wanted},
};
use crate::answers::Growth;

/// Users and devices named by one request: some clients name all members of all their rooms at once, and
/// the answer has some kilobytes for each.
pub(super) const NAMED_MAX: usize = 10_000;

/// Users whose keys are read at a time: with ten devices each, some ten thousand rows.
const USERS_AT_ONCE: usize = 250;

/// Who looks when it is another server: nobody, who has signed nothing.
const NOBODY: UserNid = UserNid(i64::MIN);
/// The device of a user of another server, which has no number here.
const NO_DEVICE: DeviceNid = DeviceNid(i64::MIN);

/// A user asked about: the name, and the devices asked for (none: all).
type QueriedDevices = HashMap<UserNid, (OwnedUserId, Vec<OwnedDeviceId>)>;

/// Signatures by whose key they are on, and which key.
type Signatures = HashMap<(UserNid, String), Vec<(OwnedUserId, Signature)>>;

impl Encryption {
    /// Returns the keys of users. Unknown users and devices are left out.
    ///
    /// # Errors
    /// `M_TOO_LARGE` when too many are named.
    pub async fn query(
        &self,
        session: &Session,
        request: Request,
        growth: &Growth,
    ) -> Result<Response> {
        let named = request.device_keys.values().map(|devices| devices.len().max(1));
        if named.sum::<usize>() > NAMED_MAX {
            let why = format!("more than {NAMED_MAX} users or devices are named at once");
            return Err(MatrixError::too_large(why).into());
        }
        let within = request.timeout.map_or(WITHIN.1, |within| within.min(WITHIN.0));
        let (elsewhere, here): (Wanted, Wanted) = request
            .device_keys
            .into_iter()
            .partition(|(user_id, _)| self.elsewhere(user_id).is_some());
        let mut response = Response::default();
        let viewer = Some(session.user);
        self.query_here(viewer, here, growth, &mut response).await?;
        if !elsewhere.is_empty() {
            let found = self.query_elsewhere(elsewhere.clone(), within).await?;
            response.failures = found.failures;
            for keys in found.answers {
                growth.add(add_answer(&mut response, keys)).await?;
            }
            let kept = found.kept.into_iter().map(|(user_id, user)| {
                let devices = elsewhere.get(&user_id).cloned().unwrap_or_default();
                (user, (user_id, devices))
            });
            self.add_all(viewer, &kept.collect(), growth, &mut response).await?;
        }
        Ok(response)
    }

    /// Adds the keys of users of this server; of no devices means of all.
    pub(super) async fn query_here(
        &self,
        viewer: Option<UserNid>,
        wanted: Wanted,
        growth: &Growth,
        response: &mut Response,
    ) -> Result<()> {
        let known: HashMap<OwnedUserId, UserNid> = {
            let known = self.context.interned.find_users(wanted.keys().map(|user| &**user)).await?;
            known.into_iter().map(|(user_id, nid)| (user_id.to_owned(), nid)).collect()
        };
        let asked = wanted.into_iter().filter_map(|(user_id, devices)| {
            Some((known.get(&user_id).copied()?, (user_id, devices)))
        });
        self.add_all(viewer, &asked.collect(), growth, response).await
    }

    async fn add_all(
        &self,
        viewer: Option<UserNid>,
        asked: &QueriedDevices,
        growth: &Growth,
        response: &mut Response,
    ) -> Result<()> {
        for (user_id, _) in asked.values() {
            response.device_keys.insert(user_id.clone(), BTreeMap::new());
        }
        let users: Vec<UserNid> = asked.keys().copied().collect();
        for users in users.chunks(USERS_AT_ONCE) {
            let bytes = self.add_keys(viewer, users, asked, response).await?;
            growth.add(bytes).await?;
        }
        Ok(())
    }

    /// Adds the keys of some of the users asked about, and returns how many bytes they have.
    async fn add_keys(
        &self,
        viewer: Option<UserNid>,
        users: &[UserNid],
        asked: &QueriedDevices,
        response: &mut Response,
    ) -> Result<usize> {
        let mut bytes = 0;
        let signatures = self.visible_signatures(viewer, users).await?;
        let db = &self.context.db;
        let remote = remote_devices::of_users(db, users).await?.into_iter();
        let remote = remote.filter_map(|(user, device)| {
            let (device_id, display_name) = (device.device_id, device.display_name);
            let keys = DeviceKeys { user, device_id, device: NO_DEVICE, keys: device.keys? };
            Some(NamedDeviceKeys { keys, display_name })
        });
        for named in device_keys::of_users(db, users).await?.into_iter().chain(remote) {
            let keys = named.keys;
            let Some((user_id, devices)) = asked.get(&keys.user) else { continue };
            let device_id = OwnedDeviceId::from(keys.device_id.clone());
            if !devices.is_empty() && !devices.contains(&device_id) {
                continue;
            }
            let extra = signatures.get(&(keys.user, keys.device_id));
            let mut unsigned = Map::new();
            if let Some(name) = named.display_name {
                unsigned.insert("device_display_name".to_owned(), name.into());
            }
            let raw = render("device_keys", &keys.keys, extra, Some(unsigned))?;
            bytes += raw.json().get().len();
            let of_user = response.device_keys.entry(user_id.clone()).or_default();
            of_user.insert(device_id, raw);
        }
        bytes += self.add_cross_signing(viewer, users, asked, &signatures, response).await?;
        Ok(bytes)
    }

    async fn add_cross_signing(
        &self,
        viewer: Option<UserNid>,
        users: &[UserNid],
        asked: &QueriedDevices,
        signatures: &Signatures,
        response: &mut Response,
    ) -> Result<usize> {
        let mut bytes = 0;
        for key in cross_signing::of_users(&self.context.db, users).await? {
            let Some((user_id, _)) = asked.get(&key.user) else { continue };
            // Whom a user has verified is the user's own business.
            if key.usage == Usage::UserSigning && Some(key.user) != viewer {
                continue;
            }
            let extra = signatures.get(&(key.user, key.public_key));
            let raw: Raw<CrossSigningKey> = render("cross_signing_keys", &key.key, extra, None)?;
            bytes += raw.json().get().len();
            let of_usage = match key.usage {
                Usage::Master => &mut response.master_keys,
                Usage::SelfSigning => &mut response.self_signing_keys,
                Usage::UserSigning => &mut response.user_signing_keys,
            };
            of_usage.insert(user_id.clone(), raw);
        }
        Ok(bytes)
    }

    async fn visible_signatures(
        &self,
        viewer: Option<UserNid>,
        users: &[UserNid],
    ) -> Result<Signatures> {
        let db = &self.context.db;
        let mut by_key = Signatures::new();
        let signatures = device_keys::signatures(db, users, viewer.unwrap_or(NOBODY)).await?;
        let signers: Vec<UserNid> = signatures.iter().map(|signature| signature.signer).collect();
        let signers = self.context.interned.user_ids(&signers).await?;
        for (signature, signer) in signatures.into_iter().zip(signers) {
            let place = (signature.target, signature.target_key.clone());
            by_key.entry(place).or_default().push((signer, signature));
        }
        Ok(by_key)
    }
}

/// Adds what another server answered, as far as it has the form, and returns how many bytes that has.
fn add_answer(response: &mut Response, keys: QueriedKeys) -> usize {
    let mut bytes = 0;
    let QueriedKeys { device_keys, master_keys, self_signing_keys } = keys;
    for (user_id, devices) in device_keys {
        let devices = devices.into_iter().filter(|(_, keys)| keys.get().starts_with('{'));
        let devices = devices.map(|(device_id, keys)| {
            bytes += keys.get().len();
            (device_id, Raw::from_json(keys))
        });
        let devices = devices.collect();
        response.device_keys.insert(user_id, devices);
    }
    let maps = [
        (master_keys, &mut response.master_keys),
        (self_signing_keys, &mut response.self_signing_keys),
    ];
    for (keys, shown) in maps {
        for (user_id, key) in keys.into_iter().filter(|(_, key)| key.get().starts_with('{')) {
            bytes += key.get().len();
            shown.insert(user_id, Raw::from_json(key));
        }
    }
    bytes
}

/// Adds signatures, and `unsigned` to the key of a device. Both are there even if they are empty:
/// clients read them unasked.
fn render<T>(
    table: &'static str,
    stored: &str,
    signatures: Option<&Vec<(OwnedUserId, Signature)>>,
    unsigned: Option<Map<String, Value>>,
) -> Result<Raw<T>> {
    let corrupt = |why: String| StorageError::corrupt(table, "key", stored, why);
    let mut object: Map<String, Value> =
        serde_json::from_str(stored).map_err(|error| corrupt(error.to_string()))?;
    let all = object.entry("signatures").or_insert_with(|| json!({}));
    let all = all.as_object_mut().ok_or_else(|| corrupt("odd signatures".to_owned()))?;
    for (signer, signature) in signatures.into_iter().flatten() {
        let by_signer = all.entry(signer.as_str()).or_insert_with(|| json!({}));
        if let Some(by_signer) = by_signer.as_object_mut() {
            by_signer.insert(signature.signer_key.clone(), signature.signature.clone().into());
        }
    }
    if let Some(unsigned) = unsigned {
        object.insert("unsigned".to_owned(), unsigned.into());
    }
    let text = Value::Object(object).to_string();
    Ok(Raw::from_json_string(text).map_err(|error| corrupt(error.to_string()))?)
}
