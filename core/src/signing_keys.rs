//! A new signing key while the server runs: made and kept beside the old one, noted in the database, put in its
//! place, and used by every process. Whoever verifies what was signed before finds the old key among those that
//! this server publishes, with the time until which it was used.
//!
//! 1. Until the database notes the new key, it signs nothing; from then on a start takes it, whatever was left
//!    undone (`finish_rotation`).
//! 2. The old key counts as used for [`OVERLAP_MS`] more: processes look every [`LOOK_EVERY`] whether there is another.

use std::{
    path::{Path, PathBuf},
    sync::Weak,
    time::Duration,
};

use colonnade_model::{MatrixError, ruma::signatures::KeyPair as _};
use colonnade_rooms::{Context, Error};
use colonnade_storage::{
    StorageError,
    database::settings,
    federation::signing_keys::{self, RetiredKey},
};

use crate::{keys, secret_file};

/// What the file is called in the data folder.
const FILE: &str = "signing.key";
/// How long the old key counts as used after it was replaced, in milliseconds: until every process has noted it.
const OVERLAP_MS: i64 = 60_000;
/// How often a process looks whether its key was replaced.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Returns where the key is.
pub(crate) fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Where the next key is kept before it is in force.
fn next_to(path: &Path) -> PathBuf {
    path.with_extension("key.next")
}

/// Puts a key in its place that the database notes already: a rotation was cut off.
pub(crate) fn finish_rotation(path: &Path, stored: Option<&[u8]>) {
    let next = next_to(path);
    let Ok(key) = keys::load(&next) else { return };
    if stored == Some(keys::public(&key).as_bytes())
        && let Err(error) = std::fs::rename(&next, path)
    {
        tracing::error!(%error, "cannot put the new signing key {} in its place", next.display());
    }
}

/// Replaces the key, and says so.
///
/// # Errors
/// When a file cannot be written, or the database fails.
pub(crate) async fn rotate(context: &Context) -> Result<String, Error> {
    let file = |cause: std::io::Error| Error::internal("write the new signing key", cause);
    let path = path(&context.data_dir);
    let next = next_to(&path);
    match std::fs::remove_file(&next) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    secret_file::write_new(&next, &keys::new_text(context.random.as_ref())).map_err(file)?;
    let new = keys::load(&next).map_err(|error| Error::internal("read the new key", error))?;
    let old = context.signing_key.current();
    let retired = RetiredKey {
        key_id: format!("ed25519:{}", old.version()),
        public_key: old.public_key().to_vec(),
        expired_ms: context.now_ms().saturating_add(OVERLAP_MS),
    };
    let replaced =
        signing_keys::replace(&context.db, keys::public(&old), keys::public(&new), retired).await;
    match replaced {
        Ok(()) => {}
        Err(StorageError::Conflict(_)) => {
            let _kept_by_nobody = std::fs::remove_file(&next);
            let why =
                "the signing key was just replaced by another process; see whether that will do";
            return Err(MatrixError::unknown(why).into());
        }
        Err(error) => return Err(error.into()),
    }
    std::fs::rename(&next, &path).map_err(file)?;
    let said = format!(
        "this server signs as {} from now on, and published {} as used until a minute from now; processes on other \
         machines need a copy of {}",
        new.sign(b"").id(),
        old.sign(b"").id(),
        path.display()
    );
    context.signing_key.replace(new);
    Ok(said)
}

/// Looks again and again whether another process replaced the key, as long as somebody signs with it.
pub(crate) async fn follow(context: Weak<Context>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(context) = context.upgrade() else { return };
        look(&context).await;
    }
}

async fn look(context: &Context) {
    // While the database is away nothing is signed that lasts.
    let Ok(Some(stored)) = settings::get(&context.db, "signing_key").await else { return };
    if stored == keys::public(&context.signing_key.current()).as_bytes() {
        return;
    }
    let path = path(&context.data_dir);
    match keys::load(&path) {
        Ok(key) if stored == keys::public(&key).as_bytes() => {
            tracing::info!(key = key.version(), "the signing key was replaced");
            context.signing_key.replace(key);
        }
        Ok(_) | Err(_) => tracing::error!(
            "the signing key was replaced, and {} is not the new one: what this process signs will not be \
             believed; put a copy of the new file there",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use colonnade_testkit::TestServer;

    use super::*;

    #[tokio::test]
    async fn a_key_is_replaced_and_found_again_after_a_crash_at_any_point() {
        let server = TestServer::start().await;
        let context = &server.inside().await.services.context;
        let at = path(&context.data_dir);
        let before = keys::public(&context.signing_key.current());
        rotate(context).await.unwrap();
        let after = keys::public(&context.signing_key.current());
        assert_ne!(before, after);
        assert_eq!(keys::public(&keys::load(&at).unwrap()), after);
        let retired = signing_keys::retired(&context.db).await.unwrap();
        assert!(before.starts_with(&retired[0].key_id), "{before}: {retired:?}");

        // Another process, cut off before the file was in its place.
        std::fs::rename(&at, next_to(&at)).unwrap();
        finish_rotation(&at, Some(before.as_bytes()));
        assert!(!at.exists(), "the database does not note it");
        finish_rotation(&at, Some(after.as_bytes()));
        assert_eq!(keys::public(&keys::load(&at).unwrap()), after);

        // A process that signs with the old one yet.
        context.signing_key.replace(keys::load(&at).unwrap());
        rotate(context).await.unwrap();
        let newest = keys::public(&context.signing_key.current());
        std::fs::write(next_to(&at), keys::new_text(context.random.as_ref())).unwrap();
        context.signing_key.replace(keys::load(&next_to(&at)).unwrap());
        look(context).await;
        assert_eq!(keys::public(&context.signing_key.current()), newest);
    }
}
