//! Uploading signatures: on one's own devices by the self-signing key, on one's own master key by a
//! device, on somebody else's master key by the user-signing key. Nothing else may be signed, and
//! what does not verify is not stored.
//!
//! Source: Matrix v1.19, client-server, `POST /keys/signatures/upload`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{
        CanonicalJsonObject, OwnedUserId,
        api::client::keys::upload_signatures::v3::{Failure, Request, Response},
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::{
    StorageError,
    keys::{
        device_lists,
        encryption::{
            cross_signing::{self, Usage},
            device_keys::{self, KeyAsRead, Signature},
        },
    },
};
use serde_json::value::RawValue;

use super::{Encryption, signed};

/// Keys signed by one request.
const SIGNED_MAX: usize = 1_000;
/// Bytes of one signed object.
const OBJECT_BYTES_MAX: usize = 64 * 1024;

/// What may be signed: the stored object, and the keys that may sign it by their ids.
#[derive(Debug)]
struct Signable {
    stored: CanonicalJsonObject,
    read: KeyAsRead,
    signers: Signers,
}

/// Keys that may sign something, by their ids.
type Signers = BTreeMap<String, SigningKey>;

/// A key that may sign something.
#[derive(Debug, Clone)]
struct SigningKey {
    public_key: String,
    read: KeyAsRead,
}

/// A signature that verifies, and the keys of which that is true.
#[derive(Debug, Clone)]
struct Checked {
    user_id: OwnedUserId,
    signature: Signature,
    keys: [KeyAsRead; 2],
}

/// Everything this request may sign, by whose key it is and the key's name.
type Signables = HashMap<(UserNid, String), Signable>;

impl Encryption {
    /// Stores the signatures that verify and returns why the others were not stored.
    ///
    /// # Errors
    /// `M_TOO_LARGE` for too many at once, `M_FORBIDDEN` when the user has signed as many as it may; what is wrong with a single one stands in the answer.
    pub async fn upload_signatures(&self, session: &Session, request: Request) -> Result<Response> {
        let named = request.signed_keys.values().map(|keys| keys.iter().count().max(1));
        let count: usize = named.sum();
        if count > SIGNED_MAX {
            return Err(MatrixError::too_large("too many signatures at once").into());
        }
        let named = request.signed_keys.keys().map(|user_id| &**user_id);
        let targets = self.context.interned.find_users(named).await?;
        let signables = self.signables(session, targets.values().copied().collect()).await?;
        let mut accepted = Vec::new();
        let mut response = Response::default();
        for (user_id, keys) in &request.signed_keys {
            let target = targets.get(&**user_id).copied();
            for (name, raw) in keys.iter() {
                let checked = target
                    .and_then(|target| Some((target, signables.get(&(target, name.to_owned()))?)))
                    .ok_or_else(|| MatrixError::not_found("no key of that name can be signed"))
                    .and_then(|(target, signable)| {
                        check(session, (target, user_id), name, signable, raw)
                    });
                match checked {
                    Ok(signatures) => accepted.extend(signatures),
                    Err(error) => fail(&mut response, user_id, name, &error)?,
                }
            }
        }
        let replaced = MatrixError::invalid_signature("the key was replaced at the same time");
        for (user_id, name) in self.store_signatures(session.user, accepted).await? {
            fail(&mut response, &user_id, &name, &replaced)?;
        }
        Ok(response)
    }

    /// Collects what the session's user may sign among the keys of `targets`.
    async fn signables(&self, session: &Session, targets: BTreeSet<UserNid>) -> Result<Signables> {
        let db = &self.context.db;
        let own = session.user;
        let users: Vec<UserNid> = targets.into_iter().chain([own]).collect();
        let keys = cross_signing::of_users(db, &users).await?;
        let signer = |usage| {
            let key = keys.iter().find(|key| key.user == own && key.usage == usage);
            key.map(|key| {
                let public_key = key.public_key.clone();
                (format!("ed25519:{public_key}"), SigningKey { public_key, read: as_read(key) })
            })
        };
        let by_devices: BTreeMap<_, _> = signer(Usage::SelfSigning).into_iter().collect();
        let by_user: BTreeMap<_, _> = signer(Usage::UserSigning).into_iter().collect();
        let mut signables = Signables::new();
        let mut device_signers = BTreeMap::new();
        for named in device_keys::of_users(db, &[own]).await? {
            let stored = parse_stored("device_keys", &named.keys.keys)?;
            let device_id = named.keys.device_id;
            let read = KeyAsRead { user: own, name: device_id.clone(), text: named.keys.keys };
            let key_id = format!("ed25519:{device_id}");
            if let Some(public_key) = signed::public_key(&stored, &key_id) {
                let public_key = public_key.to_owned();
                device_signers.insert(key_id, SigningKey { public_key, read: read.clone() });
            }
            let signable = Signable { stored, read, signers: by_devices.clone() };
            signables.insert((own, device_id), signable);
        }
        for key in keys.iter().filter(|key| key.usage == Usage::Master) {
            let stored = parse_stored("cross_signing_keys", &key.key)?;
            let signers = if key.user == own { &device_signers } else { &by_user };
            let signable = Signable { stored, read: as_read(key), signers: signers.clone() };
            signables.insert((key.user, key.public_key.clone()), signable);
        }
        Ok(signables)
    }

    /// Stores signatures, and returns which keys' were left out: what is signed, or what signed it, was
    /// replaced since it was read. Decided inside the transaction.
    async fn store_signatures(
        &self,
        signer: UserNid,
        signatures: Vec<Checked>,
    ) -> Result<Vec<(OwnedUserId, String)>> {
        if signatures.is_empty() {
            return Ok(Vec::new());
        }
        let quota = self.context.settings.limits.signatures();
        let stored = self.context.db.write(move |tx| {
            Box::pin(async move {
                let (mut changed, mut replaced) = (BTreeSet::new(), Vec::new());
                let mut own = Vec::new();
                let mut standing: HashMap<KeyAsRead, bool> = HashMap::new();
                for Checked { user_id, signature, keys } in signatures {
                    let mut stand = true;
                    for key in keys {
                        stand &= match standing.get(&key) {
                            Some(stands) => *stands,
                            None => {
                                let stands = device_keys::stands(tx, &key).await?;
                                standing.insert(key, stands);
                                stands
                            }
                        };
                    }
                    if !stand {
                        replaced.push((user_id, signature.target_key));
                        continue;
                    }
                    let (target, name) = (signature.target, signature.target_key.clone());
                    if device_keys::sign(tx, signature).await? {
                        match target == signer {
                            true => own.push(name),
                            false => drop(changed.insert(target)),
                        }
                    }
                }
                device_keys::require_signed_within(tx, signer, &quota).await?;
                for target in changed {
                    device_lists::changed_for(tx, target, signer).await?;
                }
                let devices = device_keys::names_among(tx, signer, &own).await?;
                if devices.len() < own.len() {
                    device_lists::changed(tx, signer, &[]).await?;
                }
                if !devices.is_empty() {
                    device_lists::changed(tx, signer, &devices).await?;
                }
                Ok(replaced)
            })
        });
        Ok(stored.await?)
    }
}

/// Checks one signed object: it must be the stored key, and every signature that is new must be by a
/// key that may sign it and verify.
fn check(
    session: &Session,
    (target, user_id): (UserNid, &OwnedUserId),
    name: &str,
    signable: &Signable,
    raw: &RawValue,
) -> Result<Vec<Checked>, MatrixError> {
    if raw.get().len() > OBJECT_BYTES_MAX {
        return Err(MatrixError::too_large("the signed object is too large"));
    }
    let given = signed::object(raw)?;
    if signed::content(&given) != signed::content(&signable.stored) {
        return Err(MatrixError::invalid_signature("what is signed is not the key we have"));
    }
    let signer = session.user_id.as_str();
    let known = signed::signatures_by(&signable.stored, signer);
    let mut accepted = Vec::new();
    for (key_id, signature) in signed::signatures_by(&given, signer) {
        let Some(signing) = signable.signers.get(key_id) else {
            if known.contains(&(key_id, signature)) {
                continue;
            }
            let why = format!("{key_id} is not a key that may sign this");
            return Err(MatrixError::invalid_signature(why));
        };
        signed::verify(&given, signature, &signing.public_key)?;
        let signature = Signature {
            target,
            target_key: name.to_owned(),
            signer: session.user,
            signer_key: key_id.to_owned(),
            signature: signature.to_owned(),
        };
        let keys = [signable.read.clone(), signing.read.clone()];
        accepted.push(Checked { user_id: user_id.clone(), signature, keys });
    }
    if accepted.is_empty() {
        return Err(MatrixError::invalid_signature("there is no new signature of yours"));
    }
    Ok(accepted)
}

fn parse_stored(table: &'static str, text: &str) -> Result<CanonicalJsonObject> {
    serde_json::from_str(text)
        .map_err(|error| StorageError::corrupt(table, "key", text, error).into())
}

fn as_read(key: &cross_signing::CrossSigningKey) -> KeyAsRead {
    KeyAsRead { user: key.user, name: key.public_key.clone(), text: key.key.clone() }
}

/// Says in an answer why the signatures on a key were not stored.
fn fail(
    response: &mut Response,
    user_id: &OwnedUserId,
    name: &str,
    error: &MatrixError,
) -> Result<()> {
    let of_user = response.failures.entry(user_id.clone()).or_default();
    of_user.insert(name.to_owned(), failure(error)?);
    Ok(())
}

/// Renders an error as the answer carries it.
fn failure(error: &MatrixError) -> Result<Failure> {
    serde_json::from_value(error.to_json())
        .map_err(|cause| Error::internal("render a failed signature", cause))
}
