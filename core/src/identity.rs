//! Whose data this is: the server's name and signing key are noted in the database at the first
//! start. A process with another name or key is refused before it touches anything.

use std::path::Path;

use colonnade_model::{
    Random,
    ruma::{OwnedServerName, signatures::Ed25519KeyPair},
};
use colonnade_storage::{
    Database, Location,
    database::{self, settings},
};

use crate::{keys, signing_keys, start_error::StartError};

/// Looks at the data before anything is changed: whether it is of the server `name`.
pub(crate) async fn look(location: &Location, name: &OwnedServerName) -> Result<(), StartError> {
    let stored = database::peek(location, "server_name").await?;
    stored.map_or(Ok(()), |stored| require_name(&stored, name))
}

/// Notes the server's name, and when that was, at the first start.
pub(crate) async fn require_same_server(
    db: &Database,
    name: &OwnedServerName,
    now_ms: i64,
) -> Result<(), StartError> {
    let ours = name.as_str().as_bytes().to_vec();
    require_name(&settings::begin(db, ours, now_ms).await?, name)
}

fn require_name(stored: &[u8], name: &OwnedServerName) -> Result<(), StartError> {
    if stored == name.as_str().as_bytes() {
        return Ok(());
    }
    let stored = String::from_utf8_lossy(stored).into_owned();
    Err(StartError::OtherServer { stored, configured: name.to_string() })
}

/// Reads the signing key, making one at the first start. A missing or other key beside data that
/// was signed with one is refused: events would be signed in our name that nobody can verify.
pub(crate) async fn signing_key(
    db: &Database,
    path: &Path,
    random: &dyn Random,
) -> Result<Ed25519KeyPair, StartError> {
    let stored = settings::get(db, "signing_key").await?;
    signing_keys::finish_rotation(path, stored.as_deref());
    let other = |found: &str| StartError::OtherKey {
        path: path.display().to_string(),
        found: found.to_owned(),
        stored: String::from_utf8_lossy(stored.as_deref().unwrap_or_default()).into_owned(),
    };
    if stored.is_some() && !path.exists() {
        return Err(other("there is no such file"));
    }
    let key = keys::load_or_create(path, random)?;
    let public = keys::public(&key);
    match &stored {
        None => {
            settings::get_or_insert(db, "signing_key", public.into_bytes()).await?;
        }
        Some(known) if *known != public.as_bytes() => {
            return Err(other(&format!("it holds {public}")));
        }
        Some(_) => {}
    }
    Ok(key)
}
