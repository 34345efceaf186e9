//! Registering: who may, under which name, and the first session.

use std::net::IpAddr;

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{OwnedUserId, UserId},
    session::Session,
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::users::{
    accounts::{self, Account},
    profiles::{self, DISPLAYNAME},
    uia as table, words,
};
use serde_json::Value;

use super::{
    Accounts, Auth, LoggedIn, Login, cleared, login::Proven, names, new_account::NewAccount, uia,
};
use crate::profiles::words_of;

/// Letters of a user name we choose.
pub(super) const NAME_LENGTH: usize = 12;

/// A request for an account.
#[derive(Debug, Default)]
pub struct Registration {
    /// The name; one of our choice when `None`.
    pub username: Option<String>,
    /// The guest whose account it becomes; `None` for a new one.
    pub guest: Option<Session>,
    /// The first session; `None` for an account only.
    pub login: Option<Login>,
}

/// The right to register once, from [`Accounts::check_registration`].
#[derive(Debug)]
pub struct Admission(pub(super) cleared::Cleared);

impl Admission {
    /// Says that somebody may register who passed no stages, since the operator wants it so.
    pub fn by_operator() -> Self {
        Self(cleared::Cleared::default())
    }
}

/// What became of a new account.
enum Created {
    Done,
    InUse,
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
    pub async fn check_registration(
        &self,
        auth: Option<&Auth>,
        from: Option<IpAddr>,
    ) -> Result<Admission> {
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
        let caller = uia::Caller::Stranger(from);
        self.uia.check_flows(caller, auth, "register", &flows).await.map(Admission)
    }

    /// Registers a user who was allowed to, and logs the first device in if asked to.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_INVALID_PARAM` when the password cannot be one.
    pub async fn register(
        &self,
        Admission(cleared): Admission,
        registration: Registration,
        password: &str,
    ) -> Result<(OwnedUserId, Option<LoggedIn>)> {
        // Nobody can come back to a session the client does not know: what it holds is given back.
        let lost = cleared.session.clone().filter(|_| cleared.is_unknown);
        let made = match registration.guest {
            Some(guest) => self.upgrade(cleared, guest, password).await,
            None => self.make(cleared, registration.username.as_deref(), password).await,
        };
        if let (Err(_), Some(name)) = (&made, lost) {
            self.context.db.write(move |tx| Box::pin(table::end(tx, name))).await?;
        }
        let (user, user_id) = made?;
        let logged_in = match registration.login {
            Some(login) => {
                let proven = Proven { user, user_id: user_id.clone(), password: None };
                Some(self.open_session(proven, login).await?)
            }
            None => None,
        };
        Ok((user_id, logged_in))
    }

    async fn make(
        &self,
        cleared: cleared::Cleared,
        username: Option<&str>,
        password: &str,
    ) -> Result<(UserNid, OwnedUserId)> {
        let user_id = match username {
            Some(name) => self.require_available(name).await?,
            None => {
                let name = self.context.random.alphanumeric(NAME_LENGTH);
                self.require_available(&name).await?
            }
        };
        let (admin, user_type, password) = (false, None, Some(password));
        let account =
            NewAccount { user_id: &user_id, password, admin, user_type, guest: false, cleared };
        Ok((self.create(account).await?, user_id))
    }

    /// Stores a new account, and ends the session of stages that led to it.
    pub(super) async fn create(&self, account: NewAccount<'_>) -> Result<UserNid> {
        let NewAccount { user_id, password, admin, user_type, guest, cleared } = account;
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
            guest,
            created_ts: self.context.now_ms(),
        };
        // Nobody looks for guests by their names, which say nothing.
        let words = if guest { Vec::new() } else { words_of(user_id, None) };
        let named = self.context.settings.registration.localpart_as_displayname;
        let name = named.then(|| Value::from(user_id.localpart()));
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                // First, since a name that is taken leaves the session to try another.
                if !accounts::create(tx, account).await? {
                    return Ok(Created::InUse);
                }
                // Unless another request used it: then the account goes with the transaction.
                cleared.spend(tx).await?;
                words::replace(tx, user, words).await?;
                profiles::set(tx, user, DISPLAYNAME.to_owned(), name).await?;
                Ok(Created::Done)
            })
        });
        match write.await {
            Ok(Created::Done) => Ok(user),
            Ok(Created::InUse) => Err(in_use(user_id)),
            Err(error) => Err(cleared::refusal(error)),
        }
    }

    /// Tells whether a registration token would be accepted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_registration_token(&self, token: &str) -> Result<bool> {
        self.uia.tokens().is_valid(token).await
    }
}

fn in_use(user_id: &UserId) -> Error {
    MatrixError::user_in_use(format!("the user {user_id} exists already")).into()
}
