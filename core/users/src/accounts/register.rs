//! Registering: who may, under which name, and the first session.

use std::net::IpAddr;

use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{OwnedDeviceId, OwnedUserId, UserId},
    session::Session,
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::users::{
    accounts::{self, Account},
    profiles::{self, DISPLAYNAME},
    uia as table, words,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Accounts, Auth, LoggedIn, Login, cleared,
    login::Proven,
    names,
    new_account::{NewAccount, NewPassword},
    uia,
};
use crate::profiles::words_of;

/// Letters of a user name we choose.
pub(super) const NAME_LENGTH: usize = 12;

/// A request for an account. What it does not say, the request said by which the session of stages was opened.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub struct Registration {
    /// The name; one of our choice when `None`.
    pub username: Option<String>,
    /// Of the first device; one of our choice when `None`.
    pub device_id: Option<OwnedDeviceId>,
    /// What the first device is called.
    pub display_name: Option<String>,
    /// An account without a first session is wanted.
    pub inhibit_login: Option<bool>,
    /// The client can refresh its access token.
    pub refreshable: Option<bool>,
    /// The guest whose account it becomes; `None` for a new one.
    #[serde(skip)]
    pub guest: Option<Session>,
    /// What the first device is called if nobody says.
    #[serde(skip)]
    pub client: Option<String>,
    /// Where the request comes from.
    #[serde(skip)]
    pub address: Option<IpAddr>,
}

impl Registration {
    /// Says what it does not say by an earlier one.
    fn or(self, earlier: Self) -> Self {
        Self {
            username: self.username.or(earlier.username),
            device_id: self.device_id.or(earlier.device_id),
            display_name: self.display_name.or(earlier.display_name),
            inhibit_login: self.inhibit_login.or(earlier.inhibit_login),
            refreshable: self.refreshable.or(earlier.refreshable),
            ..self
        }
    }

    /// Returns the first session that is wanted.
    fn login(self) -> Option<Login> {
        (self.inhibit_login != Some(true)).then(|| Login {
            device_id: self.device_id,
            display_name: self.display_name.or(self.client),
            refreshable: self.refreshable == Some(true),
            address: self.address,
        })
    }
}

/// What a session of stages remembers.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Remembered {
    registration: Registration,
    /// The PHC string of the password.
    password: Option<String>,
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
        registration: &Registration,
        password: Option<&str>,
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
        let request = match auth {
            Some(_) => String::new(),
            None => self.remembered(registration, password).await?,
        };
        let caller = uia::Caller::Stranger(registration.address);
        let cleared = self.uia.check_flows(caller, auth, "register", &flows, &request).await?;
        Ok(Admission(cleared))
    }

    /// Makes what a session of stages remembers of a request.
    async fn remembered(
        &self,
        registration: &Registration,
        password: Option<&str>,
    ) -> Result<String> {
        let password = match password {
            Some(password) => Some(self.passwords.hash(password).await?),
            None => None,
        };
        let remembered = Remembered { registration: registration.clone(), password };
        serde_json::to_string(&remembered)
            .map_err(|error| Error::internal("remember a registration", error))
    }

    /// Registers a user who was allowed to, and logs the first device in if asked to. Repeated with a session
    /// of stages that led to a user, it makes nobody, and logs that user in.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_MISSING_PARAM` without a password, `M_INVALID_PARAM` when it
    /// cannot be one.
    pub async fn register(
        &self,
        Admission(cleared): Admission,
        registration: Registration,
        password: Option<&str>,
    ) -> Result<(OwnedUserId, Option<LoggedIn>)> {
        let earlier: Remembered = serde_json::from_str(&cleared.request).unwrap_or_default();
        let registration = registration.or(earlier.registration);
        let password = password.map(NewPassword::Plain);
        let password = password.or(earlier.password.map(NewPassword::Hashed));
        // Nobody can come back to a session the client does not know: what it holds is given back.
        let lost = cleared.session.clone().filter(|_| cleared.is_unknown);
        let made = match &cleared.made {
            Some(user_id) => self.made_before(user_id).await,
            None => self.make(cleared, &registration, password).await,
        };
        if let (Err(_), Some(name)) = (&made, lost) {
            self.context.db.write(move |tx| Box::pin(table::end(tx, name))).await?;
        }
        let (user, user_id) = made?;
        let logged_in = match registration.login() {
            Some(login) => {
                let proven = Proven { user, user_id: user_id.clone(), password: None };
                Some(self.open_session(proven, login).await?)
            }
            None => None,
        };
        Ok((user_id, logged_in))
    }

    /// Returns the user that a session of stages led to.
    async fn made_before(&self, user_id: &str) -> Result<(UserNid, OwnedUserId)> {
        let user_id = UserId::parse(user_id).map_err(|_| cleared::unknown_session())?;
        let account = self.find(&user_id).await?.ok_or_else(cleared::unknown_session)?;
        Ok((account.user, user_id))
    }

    async fn make(
        &self,
        cleared: cleared::Cleared,
        registration: &Registration,
        password: Option<NewPassword<'_>>,
    ) -> Result<(UserNid, OwnedUserId)> {
        let password = password.ok_or_else(|| MatrixError::missing_param("no password"))?;
        if let Some(guest) = &registration.guest {
            return self.upgrade(cleared, guest.clone(), password).await;
        }
        let user_id = match registration.username.as_deref() {
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
            Some(password) => Some(self.hashed(password).await?),
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
        let made = user_id.to_string();
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                // First, since a name that is taken leaves the session to try another.
                if !accounts::create(tx, account).await? {
                    return Ok(Created::InUse);
                }
                // Unless another request used it: then the account goes with the transaction.
                cleared.spend(tx, made).await?;
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

    /// Returns the PHC string of a new password.
    pub(super) async fn hashed(&self, password: NewPassword<'_>) -> Result<String> {
        match password {
            NewPassword::Plain(text) => self.passwords.hash(text).await,
            NewPassword::Hashed(hash) => Ok(hash),
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
