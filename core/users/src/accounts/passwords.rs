//! Hashes and checks passwords with Argon2id, away from the threads that answer requests.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use colonnade_model::{MatrixError, nid::UserNid};
use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::users::accounts;
use tokio::sync::Semaphore;

/// Passwords hashed at a time: each takes 19 MiB and some 50 ms of a core.
const HASHING_MAX: usize = 2;
/// Requests that may wait for a hash; beyond it the answer would come too late to be of use.
const WAITING_MAX: usize = 200;
/// The longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 512;
/// Random bytes that make equal passwords look different.
const SALT_BYTES: usize = 16;

/// The one place that sees passwords.
pub(super) struct Passwords {
    context: Arc<Context>,
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            hashing: Arc::new(Semaphore::new(HASHING_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    /// Makes sure that `password` is the password of the user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when it is not; otherwise as [`Passwords::verify`].
    pub(super) async fn require(&self, user: UserNid, password: &str) -> Result<()> {
        let account = accounts::find(&self.context.db, user).await?;
        let open = account.filter(|account| !account.deactivated);
        if self.verify(password, open.and_then(|account| account.password)).await? {
            return Ok(());
        }
        Err(wrong().into())
    }

    /// Returns the PHC string of a new password.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when it is empty or too long, `M_LIMIT_EXCEEDED` when too many wait.
    pub(super) async fn hash(&self, password: &str) -> Result<String> {
        if password.is_empty() {
            return Err(MatrixError::invalid_param("the password is empty").into());
        }
        require_short(password)?;
        let mut salt = [0u8; SALT_BYTES];
        self.context.random.fill(&mut salt);
        let password = password.to_owned();
        let hashed = self.run(move || {
            Argon2::default()
                .hash_password_with_salt(password.as_bytes(), &salt)
                .map(|phc: PasswordHash| phc.to_string())
        });
        hashed.await?.map_err(|error| Error::internal("hash a password", error))
    }

    /// Tells whether `password` belongs to the PHC string. Takes as long when there is none, so
    /// that the time does not tell who has an account.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when too many wait; when the stored string cannot be read.
    pub(super) async fn verify(&self, password: &str, stored: Option<String>) -> Result<bool> {
        require_short(password)?;
        let password = password.to_owned();
        let Some(stored) = stored else {
            let hashed = self.run(move || {
                let hashed: Result<PasswordHash, _> = Argon2::default()
                    .hash_password_with_salt(password.as_bytes(), &[0u8; SALT_BYTES]);
                hashed.is_ok()
            });
            hashed.await?;
            return Ok(false);
        };
        let phc = PasswordHash::new(&stored)
            .map_err(|error| Error::internal("read a stored password", error))?;
        self.run(move || Argon2::default().verify_password(password.as_bytes(), &phc).is_ok()).await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let Ok(_waiting) = self.waiting.try_acquire() else {
            return Err(MatrixError::limit_exceeded(1_000).into());
        };
        let turn = Arc::clone(&self.hashing).acquire_owned().await;
        let turn = turn.map_err(|error| Error::internal("wait for a turn to hash", error))?;
        let worked = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        worked.await.map_err(|error| Error::internal("hash a password", error))
    }
}

fn require_short(password: &str) -> Result<()> {
    if password.len() > PASSWORD_BYTES_MAX {
        let why = format!("the password is longer than {PASSWORD_BYTES_MAX} bytes");
        return Err(MatrixError::invalid_param(why).into());
    }
    Ok(())
}

/// What everybody is told who does not get in, whatever was wrong.
pub(super) fn wrong() -> MatrixError {
    MatrixError::forbidden("the user name or password is wrong")
}
