//! Uploading cross-signing keys. The first set is free; replacing one takes another proof of who one
//! is, and uploading the same set again changes nothing.
//!
//! Source: Matrix v1.19, client-server, `POST /keys/device_signing/upload`.

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{
        CanonicalJsonObject, UserId,
        api::client::keys::upload_signing_keys::v3::Request,
        encryption::{CrossSigningKey, KeyUsage},
        serde::{Base64, Raw},
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::{
    delivery::to_device,
    keys::{
        device_lists,
        encryption::cross_signing::{self, Usage},
    },
};

use serde_json::value::RawValue;

use super::{Encryption, signed};
use crate::accounts::{Auth, Session};

/// Bytes of a cross-signing key: a public key and a signature per device.
const KEY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an ed25519 public key.
const PUBLIC_KEY_BYTES: usize = 32;

/// What names the request in user-interactive authentication.
const ACTION: &str = "POST /keys/device_signing/upload";

/// A key of an upload, checked on its own.
#[derive(Debug, Clone)]
struct NewKey {
    usage: Usage,
    public_key: String,
    object: CanonicalJsonObject,
}

/// How an upload compares to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The user has no master key yet.
    First,
    /// Nothing in it is new.
    Same,
    /// Something would be replaced or added.
    Change,
}

/// What the user has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// The access token.
    Token,
    /// Who he is, once more.
    Again,
}

/// What became of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// They are stored.
    Stored,
    /// They take another proof.
    Refused,
    /// The master key was replaced since they were checked.
    OtherMaster,
}

impl Encryption {
    /// Stores the cross-signing keys of a user.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for malformed or foreign keys, `M_INVALID_SIGNATURE` when a key is not
    /// signed by the master key, `M_MISSING_PARAM` when there is no master key, `M_FORBIDDEN` when a
    /// public key is a device id, a demand for authentication when keys would be replaced.
    pub async fn upload_cross_signing(
        &self,
        session: &Session,
        auth: Option<&Auth>,
        request: Request,
    ) -> Result<()> {
        let Request { master_key, self_signing_key, user_signing_key, .. } = request;
        let given = [
            (Usage::Master, master_key),
            (Usage::SelfSigning, self_signing_key),
            (Usage::UserSigning, user_signing_key),
        ];
        let mut keys = Vec::with_capacity(given.len());
        for (usage, raw) in given {
            if let Some(raw) = raw {
                keys.push(parse(&session.user_id, usage, &raw)?);
            }
        }
        let master = self.check_signatures(session, &keys).await?;
        self.check_free_names(session, &keys).await?;
        let put = |proof| self.put_cross_signing(session.user, keys.clone(), &master, proof);
        match put(Proof::Token).await? {
            Put::Stored => return Ok(()),
            Put::Refused => {}
            Put::OtherMaster => return Err(other_master()),
        }
        self.accounts.uia.check(session, auth, ACTION).await?;
        match put(Proof::Again).await? {
            Put::OtherMaster => Err(other_master()),
            Put::Stored | Put::Refused => Ok(()),
        }
    }

    /// Makes sure that self-signing and user-signing key are signed by the master key: the one in
    /// the request, or else the stored one. Returns that master key.
    async fn check_signatures(&self, session: &Session, keys: &[NewKey]) -> Result<String> {
        let master = match keys.iter().find(|key| key.usage == Usage::Master) {
            Some(master) => master.public_key.clone(),
            None => {
                let users = [session.user];
                let stored = cross_signing::of_users(&self.context.db, &users).await?;
                let master = stored.into_iter().find(|key| key.usage == Usage::Master);
                let Some(master) = master else {
                    return Err(MatrixError::missing_param("there is no master key yet").into());
                };
                master.public_key
            }
        };
        let key_id = format!("ed25519:{master}");
        for key in keys.iter().filter(|key| key.usage != Usage::Master) {
            let signatures = signed::signatures_by(&key.object, session.user_id.as_str());
            let by_master = signatures.into_iter().find(|(id, _)| *id == key_id);
            let Some((_, signature)) = by_master else {
                return Err(MatrixError::invalid_signature(
                    "the key is not signed by the master key",
                )
                .into());
            };
            signed::verify(&key.object, signature, &master)?;
        }
        Ok(master)
    }

    /// A key called like a device would be mistaken for it where signatures are uploaded.
    async fn check_free_names(&self, session: &Session, keys: &[NewKey]) -> Result<()> {
        let devices = to_device::devices_of(&self.context.db, &[session.user]).await?;
        if keys.iter().any(|key| devices.iter().any(|d| d.device_id == key.public_key)) {
            return Err(MatrixError::forbidden("the key is named like one of your devices").into());
        }
        Ok(())
    }

    /// Stores the keys unless that takes another proof, or the master key they were checked against is
    /// no longer the one. Decided inside the transaction, so that of two first uploads the second
    /// cannot slip through, and no key stays that an old master key signed.
    async fn put_cross_signing(
        &self,
        user: UserNid,
        keys: Vec<NewKey>,
        master: &str,
        proof: Proof,
    ) -> Result<Put> {
        let master = master.to_owned();
        let stored = self.context.db.write(move |tx| {
            Box::pin(async move {
                let stored = cross_signing::of_user(tx, user).await?;
                let gives_master = keys.iter().any(|key| key.usage == Usage::Master);
                let is_master = |key: &cross_signing::CrossSigningKey| {
                    key.usage == Usage::Master && key.public_key == master
                };
                if !gives_master && !stored.iter().any(is_master) {
                    return Ok(Put::OtherMaster);
                }
                match compare(&stored, &keys) {
                    Standing::Same => return Ok(Put::Stored),
                    Standing::Change if proof == Proof::Token => return Ok(Put::Refused),
                    Standing::First | Standing::Change => {}
                }
                let find = |usage| keys.iter().find(|key| key.usage == usage);
                let is_other = |new: &NewKey, old: &cross_signing::CrossSigningKey| {
                    old.usage == Usage::Master && old.public_key != new.public_key
                };
                let new_master = find(Usage::Master)
                    .is_some_and(|new| stored.iter().any(|old| is_other(new, old)));
                for usage in [Usage::SelfSigning, Usage::UserSigning] {
                    // Signed by the old master key: worth nothing under the new one.
                    if new_master && find(usage).is_none() {
                        cross_signing::delete(tx, user, usage).await?;
                    }
                }
                for NewKey { usage, public_key, object } in keys {
                    let key = signed::text(object);
                    let row = cross_signing::CrossSigningKey { user, usage, public_key, key };
                    cross_signing::put(tx, row).await?;
                }
                device_lists::changed(tx, user, &[]).await?;
                Ok(Put::Stored)
            })
        });
        Ok(stored.await?)
    }
}

fn other_master() -> Error {
    MatrixError::invalid_signature("the master key was replaced at the same time").into()
}

fn compare(stored: &[cross_signing::CrossSigningKey], keys: &[NewKey]) -> Standing {
    if !stored.iter().any(|key| key.usage == Usage::Master) {
        return Standing::First;
    }
    let is_stored = |new: &NewKey| {
        stored.iter().any(|old| old.usage == new.usage && old.public_key == new.public_key)
    };
    if keys.iter().all(is_stored) { Standing::Same } else { Standing::Change }
}

/// Reads a cross-signing key of a user of another server: its public key, and its text with his own signatures.
///
/// # Errors
/// As for an upload.
pub(super) fn remote_key(
    user_id: &UserId,
    usage: Usage,
    raw: &RawValue,
) -> Result<(String, String), MatrixError> {
    let raw = Raw::from_json(raw.to_owned());
    let key = parse(user_id, usage, &raw)?;
    Ok((key.public_key, signed::text(key.object)))
}

fn parse(
    user_id: &UserId,
    usage: Usage,
    raw: &Raw<CrossSigningKey>,
) -> Result<NewKey, MatrixError> {
    if raw.json().get().len() > KEY_BYTES_MAX {
        return Err(MatrixError::too_large("the cross-signing key is too large"));
    }
    let key = raw.deserialize().map_err(|error| {
        MatrixError::bad_json(format!("the cross-signing key is malformed: {error}"))
    })?;
    let invalid = |why: &str| Err(MatrixError::invalid_param(why));
    if key.user_id != user_id {
        return invalid("the cross-signing key belongs to another user");
    }
    let expected = match usage {
        Usage::Master => KeyUsage::Master,
        Usage::SelfSigning => KeyUsage::SelfSigning,
        Usage::UserSigning => KeyUsage::UserSigning,
    };
    if !key.usage.contains(&expected) {
        return invalid("the cross-signing key is for another usage");
    }
    let mut object = signed::object(raw.json())?;
    let keys = object.get("keys").and_then(|keys| keys.as_object());
    let only = keys.filter(|keys| keys.len() == 1).and_then(|keys| keys.iter().next());
    let Some((key_id, public_key)) = only else {
        return invalid("a cross-signing key has exactly one public key");
    };
    let public_key = public_key.as_str().unwrap_or_default().to_owned();
    let decoded: Result<Base64, _> = Base64::parse(&public_key);
    if !decoded.is_ok_and(|bytes| bytes.as_bytes().len() == PUBLIC_KEY_BYTES) {
        return invalid("the public key is not 32 bytes in base64");
    }
    if *key_id != format!("ed25519:{public_key}") {
        return invalid("the key's id is not ed25519: and the public key");
    }
    signed::keep_signatures_by(&mut object, user_id.as_str());
    Ok(NewKey { usage, public_key, object })
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::{CanonicalJsonValue, user_id};
    use serde_json::{Value, json, value::to_raw_value};

    use super::*;

    /// 32 bytes.
    const PUBLIC: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn read(change: impl Fn(&mut Value)) -> Result<NewKey, MatrixError> {
        let mut key = json!({
            "user_id": "@a:b", "usage": ["master"], "keys": { format!("ed25519:{PUBLIC}"): PUBLIC },
            "signatures": { "@a:b": { "ed25519:D": "sig" }, "@other:b": { "ed25519:E": "sig" } },
        });
        change(&mut key);
        let raw = Raw::from_json(to_raw_value(&key).unwrap());
        parse(user_id!("@a:b"), Usage::Master, &raw)
    }

    #[test]
    fn a_key_is_the_users_own_and_for_its_usage() {
        let key = read(|_| ()).unwrap();
        assert_eq!((key.usage, &*key.public_key), (Usage::Master, PUBLIC));
        let object = Value::from(CanonicalJsonValue::Object(key.object));
        assert_eq!(object["signatures"], json!({ "@a:b": { "ed25519:D": "sig" } }), "its own only");
        let code = |change: &dyn Fn(&mut Value)| read(change).unwrap_err().errcode;
        assert_eq!(code(&|key| key["user_id"] = json!("@c:b")), "M_INVALID_PARAM");
        assert_eq!(code(&|key| key["usage"] = json!(["self_signing"])), "M_INVALID_PARAM");
        assert_eq!(code(&|key| key["usage"] = json!("master")), "M_BAD_JSON");
        assert_eq!(code(&|key| key["fat"] = json!("x".repeat(KEY_BYTES_MAX))), "M_TOO_LARGE");
    }

    #[test]
    fn a_key_has_one_public_key_and_its_name() {
        for keys in [
            json!({}),
            json!({ format!("ed25519:{PUBLIC}"): PUBLIC, "ed25519:more": PUBLIC }),
            json!({ "ed25519:other": PUBLIC }),
            json!({ "ed25519:AAAA": "AAAA" }),
            json!({ "ed25519:other": "???" }),
        ] {
            let error = read(|key| key["keys"] = keys.clone()).unwrap_err();
            assert_eq!(error.errcode, "M_INVALID_PARAM", "{keys}");
        }
    }

    #[test]
    fn an_upload_is_the_first_the_same_or_a_change() {
        let stored = |usage, public: &str| cross_signing::CrossSigningKey {
            user: UserNid(1),
            usage,
            public_key: public.to_owned(),
            key: "{}".to_owned(),
        };
        let new = |usage, public: &str| {
            let (public_key, object) = (public.to_owned(), CanonicalJsonObject::new());
            NewKey { usage, public_key, object }
        };
        let (master, own) = (Usage::Master, Usage::SelfSigning);
        for (before, upload, expected) in [
            (vec![], vec![new(master, "m")], Standing::First),
            (vec![stored(own, "s")], vec![new(master, "m")], Standing::First),
            (vec![stored(master, "m")], vec![new(master, "m")], Standing::Same),
            (vec![stored(master, "m")], vec![], Standing::Same),
            (vec![stored(master, "m")], vec![new(master, "n")], Standing::Change),
            (vec![stored(master, "m")], vec![new(master, "m"), new(own, "s")], Standing::Change),
            (vec![stored(master, "m"), stored(own, "m")], vec![new(own, "m")], Standing::Same),
        ] {
            assert_eq!(compare(&before, &upload), expected, "{before:?} {upload:?}");
        }
    }
}
