//! Registering: who may, under which name, and the first session.

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{OwnedUserId, UserId, api::client::uiaa::AuthData},
};
use colonnade_storage::{
    accounts::{self, Account},
    user_words,
};

use super::{Accounts, LoggedIn, Login, names, uia};
use crate::{Error, Result, profiles::words_of};

/// Letters of a user name we choose.
const NAME_LENGTH: usize = 12;

/// A wish for an account.
#[derive(Debug, Default)]
pub struct Registration {
    /// The name; one of our choice when `None`.
    pub username: Option<String>,
    /// The first session; `None` for an account only.
    pub login: Option<Login>,
}

impl Accounts {
    /// Makes sure that a user of this name can be registered, and returns the user id.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`.
    pub async fn require_available(&self, name: &str) -> Result<OwnedUserId> {
        let user_id = names::new_user(name, &self.context.server_name)?;
        if self.find(&user_id).await?.is_some() {
            return Err(in_use(&user_id));
        }
        Ok(user_id)
    }

    /// Makes sure that somebody may register, by the stages the settings ask for.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when registration is closed, otherwise as [`uia::Uia::check`].
    pub async fn check_registration(&self, auth: Option<&AuthData>) -> Result<()> {
        let mut flows = Vec::new();
        if self.context.settings.registration.open == Some(true) {
            flows.push(vec![uia::Stage::Dummy]);
        }
        if !self.context.settings.registration.tokens.is_empty() {
            flows.push(vec![uia::Stage::RegistrationToken]);
        }
        if flows.is_empty() {
            return Err(MatrixError::forbidden("registration is closed on this server").into());
        }
        self.uia.check_flows(None, auth, "register", &flows).await
    }

    /// Registers a user who was allowed to, and logs the first device in if asked to.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_INVALID_PARAM` when the password cannot be one.
    pub async fn register(
        &self,
        registration: Registration,
        password: &str,
    ) -> Result<(OwnedUserId, Option<LoggedIn>)> {
        let user_id = match &registration.username {
            Some(name) => self.require_available(name).await?,
            None => {
                let name = self.context.random.alphanumeric(NAME_LENGTH);
                self.require_available(&name).await?
            }
        };
        let user = self.create(&user_id, Some(password), false, None).await?;
        let logged_in = match registration.login {
            Some(login) => Some(self.open_session(user, user_id.clone(), login).await?),
            None => None,
        };
        Ok((user_id, logged_in))
    }

    /// Stores a new account.
    pub(super) async fn create(
        &self,
        user_id: &UserId,
        password: Option<&str>,
        admin: bool,
        user_type: Option<String>,
    ) -> Result<UserNid> {
        let password = match password {
            Some(text) => Some(self.passwords.hash(text).await?),
            None => None,
        };
        let user = self.context.interned.user(user_id).await?;
        let account = Account {
            user,
            password,
            admin,
            deactivated: false,
            erased: false,
            user_type,
            created_ts: self.context.now_ms(),
        };
        let words = words_of(user_id, None);
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                let is_new = accounts::create(tx, account).await?;
                if is_new {
                    user_words::replace(tx, user, words).await?;
                }
                Ok(is_new)
            })
        });
        if !write.await? {
            return Err(in_use(user_id));
        }
        Ok(user)
    }

    /// Tells whether a registration token would be accepted.
    pub fn is_registration_token(&self, token: &str) -> bool {
        uia::is_listed(token, &self.context.settings.registration.tokens)
    }
}

fn in_use(user_id: &UserId) -> Error {
    MatrixError::user_in_use(format!("the user {user_id} exists already")).into()
}
