//! Registration by an administrator's script that knows the shared secret, with the nonces and the
//! message authentication code other homeservers' tools use.
//!
//! Source: Synapse, admin API, "Shared-Secret Registration":
//! `HMAC-SHA1(secret, nonce \0 user \0 password \0 admin|notadmin [\0 user_type])`.

use std::net::IpAddr;

use colonnade_model::MatrixError;
use colonnade_rooms::Result;
use colonnade_storage::users::uia::{self, UiaSession};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use subtle::ConstantTimeEq as _;

use super::{
    Accounts, LoggedIn, Login,
    login::Proven,
    names,
    new_account::{NewAccount, NewPassword},
    uia::{owner_at, store},
};

/// How long a nonce can be used, in milliseconds.
const NONCE_MS: i64 = 60 * 1_000;
/// Nonces of one address: a script that registers many takes one at a time.
const NONCES_MAX: i64 = 100;
/// As what a nonce stands among the sessions of user-interactive authentication, which every process
/// sees and which end once, as it does.
const NONCE_ACTION: &str = "a nonce of registration by shared secret";
/// Random characters of a nonce.
const NONCE_LENGTH: usize = 64;

/// A request with its proof.
pub struct SharedSecretRegistration {
    /// A nonce from [`Accounts::shared_secret_nonce`].
    pub nonce: String,
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The user may administrate the server.
    pub admin: bool,
    /// The kind of user; `None` for an ordinary one.
    pub user_type: Option<String>,
    /// The code over all of the above, in hexadecimal.
    pub mac: String,
}

impl Accounts {
    fn shared_secret(&self) -> Result<&str, MatrixError> {
        let secret = self.context.settings.registration.shared_secret.as_deref();
        secret.filter(|secret| !secret.is_empty()).ok_or_else(|| {
            MatrixError::unknown("shared secret registration is not enabled on this server")
        })
    }

    /// Gives out a nonce for one registration.
    ///
    /// # Errors
    /// `M_UNKNOWN` when there is no shared secret.
    pub async fn shared_secret_nonce(&self, from: Option<IpAddr>) -> Result<String> {
        self.shared_secret()?;
        let nonce = self.context.random.alphanumeric(NONCE_LENGTH);
        let session = UiaSession {
            session: nonce.clone(),
            action: NONCE_ACTION.to_owned(),
            user: None,
            owner: format!("nonces of {}", owner_at(from)),
            completed: Vec::new(),
            token: String::new(),
            created_ts: self.context.now_ms(),
            request: String::new(),
            made: String::new(),
        };
        store(&self.context, session, NONCES_MAX).await?;
        Ok(nonce)
    }

    /// Uses a nonce up; false when it is not known (any more).
    async fn take_nonce(&self, nonce: &str) -> Result<bool> {
        let oldest_ts = self.context.now_ms() - NONCE_MS;
        let found = uia::find(&self.context.db, nonce, oldest_ts).await?;
        if found.is_none_or(|found| found.action != NONCE_ACTION) {
            return Ok(false);
        }
        let nonce = nonce.to_owned();
        Ok(self.context.db.write(move |tx| Box::pin(uia::end(tx, nonce))).await?)
    }

    /// Registers a user and logs a first device in.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the code is wrong, `M_UNKNOWN` when the nonce is, otherwise as
    /// [`Accounts::register`].
    pub async fn register_by_shared_secret(
        &self,
        registration: SharedSecretRegistration,
    ) -> Result<LoggedIn> {
        let secret = self.shared_secret()?;
        if !self.take_nonce(&registration.nonce).await? {
            return Err(MatrixError::unknown("unrecognised nonce").into());
        }
        if [&registration.username, &registration.password].iter().any(|text| text.contains('\0')) {
            return Err(MatrixError::unknown("a NUL character cannot be part of this").into());
        }
        let right = code(secret, &registration);
        if !bool::from(right.as_bytes().ct_eq(registration.mac.to_ascii_lowercase().as_bytes())) {
            return Err(MatrixError::forbidden("the code does not fit: HMAC incorrect").into());
        }
        let user_id = names::new_user(&registration.username, &self.context.server_name)?;
        let SharedSecretRegistration { password, admin, user_type, .. } = registration;
        let (password, cleared) = (Some(NewPassword::Plain(&password)), Default::default());
        let account =
            NewAccount { user_id: &user_id, password, admin, user_type, guest: false, cleared };
        let user = self.create(account).await?;
        let proven = Proven { user, user_id, password: None };
        self.open_session(proven, Login::default()).await
    }
}

/// Computes the code of a request, in lower-case hexadecimal.
fn code(secret: &str, registration: &SharedSecretRegistration) -> String {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
    let rights: &[u8] = if registration.admin { b"admin" } else { b"notadmin" };
    mac.update(registration.nonce.as_bytes());
    for part in [registration.username.as_bytes(), registration.password.as_bytes(), rights] {
        mac.update(b"\0");
        mac.update(part);
    }
    if let Some(user_type) = &registration.user_type {
        mac.update(b"\0");
        mac.update(user_type.as_bytes());
    }
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_one_other_tools_compute() {
        // printf 'thisisanonce\0pepper_roni\0pizza\0admin' | openssl sha1 -hmac shared_secret
        let mut registration = SharedSecretRegistration {
            nonce: "thisisanonce".to_owned(),
            username: "pepper_roni".to_owned(),
            password: "pizza".to_owned(),
            admin: true,
            user_type: None,
            mac: String::new(),
        };
        assert_eq!(
            code("shared_secret", &registration),
            "48715842ad67d5dc9a9ee938a3bda4fcfae8d7c7"
        );
        registration.user_type = Some("bot".to_owned());
        assert_eq!(
            code("shared_secret", &registration),
            "2ab701ea6618f3a4ffffc98f2116ea6ff5157182"
        );
    }
}
