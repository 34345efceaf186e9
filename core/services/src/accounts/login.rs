//! Logging in: a password or a login token becomes a device with an access token.

use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, UserNid},
    ruma::{OwnedDeviceId, OwnedUserId},
};
use colonnade_storage::{
    accounts, device_lists,
    devices::{self, Device},
    sessions,
};

use super::{Accounts, Session, lifecycle, names, passwords::wrong, tokens};
use crate::{Result, devices::require_short, quotas::signed};

/// Letters of a device id we choose.
const DEVICE_ID_LENGTH: usize = 10;
/// The longest device id a client may choose, in bytes.
const DEVICE_ID_BYTES_MAX: usize = 255;
/// How long a login token can be used, in milliseconds: enough to scan a code.
const LOGIN_TOKEN_MS: i64 = 2 * 60 * 1_000;
/// How long an OpenID token can be used, in milliseconds.
const OPENID_TOKEN_MS: i64 = 60 * 60 * 1_000;

/// What proves who logs in.
pub enum Proof {
    /// A user name (localpart or user id) and the password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token from [`Accounts::login_token`].
    Token(String),
}

/// A wish to log in.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// The device to log in as; a new one when `None`.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device.
    pub display_name: Option<String>,
    /// The client can refresh its access token.
    pub refreshable: bool,
}

/// A new session with its tokens in clear, for the client only.
pub struct LoggedIn {
    /// The session.
    pub session: Session,
    /// The access token.
    pub access_token: String,
    /// The refresh token, when the client asked for one.
    pub refresh_token: Option<String>,
    /// How long the access token lasts, in milliseconds; `None` for ever.
    pub expires_in_ms: Option<u64>,
}

/// Tokens in clear, and what is stored of them.
#[derive(Clone)]
pub(super) struct Minted {
    pub(super) access: String,
    pub(super) refresh: Option<String>,
    pub(super) expires_in_ms: Option<u64>,
    pub(super) stored: sessions::NewTokens,
}

impl Accounts {
    /// Logs a user in.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the proof is wrong, `M_USER_DEACTIVATED` when the account is closed.
    pub async fn login(&self, proof: Proof, login: Login) -> Result<LoggedIn> {
        let (user, user_id) = match proof {
            Proof::Password { user, password } => self.prove_by_password(&user, &password).await?,
            Proof::Token(token) => self.prove_by_token(&token).await?,
        };
        self.open_session(user, user_id, login).await
    }

    /// Makes a token that logs the user in once, on another device.
    ///
    /// Source: Matrix v1.19, client-server, `POST /_matrix/client/v1/login/get_token`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn login_token(&self, session: &Session) -> Result<(String, u64)> {
        let token = tokens::login(self.context.random.as_ref());
        let (hash, user, now_ms) = (tokens::hash(&token), session.user, self.context.now_ms());
        let expires_ts = now_ms + LOGIN_TOKEN_MS;
        let count_max = signed(self.context.settings.limits.login_tokens_max);
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                sessions::insert_login_token(tx, hash, user, expires_ts, now_ms).await?;
                sessions::keep_login_tokens(tx, user, count_max).await
            })
        });
        write.await?;
        Ok((token, LOGIN_TOKEN_MS.unsigned_abs()))
    }

    /// Makes a token by which a third party can ask this server who the user is.
    ///
    /// Source: Matrix v1.19, client-server, "OpenID".
    ///
    /// # Errors
    /// When the database fails.
    pub async fn openid_token(&self, session: &Session) -> Result<(String, u64)> {
        let token = tokens::openid(self.context.random.as_ref());
        let (hash, user, now_ms) = (tokens::hash(&token), session.user, self.context.now_ms());
        let expires_ts = now_ms + OPENID_TOKEN_MS;
        let count_max = signed(self.context.settings.limits.openid_tokens_max);
        let write = self.context.db.write(move |tx| {
            Box::pin(sessions::insert_openid_token(tx, hash, user, expires_ts, now_ms, count_max))
        });
        write.await?;
        Ok((token, OPENID_TOKEN_MS.unsigned_abs()))
    }

    async fn prove_by_password(
        &self,
        name: &str,
        password: &str,
    ) -> Result<(UserNid, OwnedUserId)> {
        for user_id in names::login_candidates(name, &self.context.server_name) {
            if let Some(account) = self.find(&user_id).await? {
                require_open(&account)?;
                self.passwords.require(account.user, password).await?;
                return Ok((account.user, user_id));
            }
        }
        // Somebody we do not know: take the time a wrong password takes.
        self.passwords.verify(password, None).await?;
        Err(wrong().into())
    }

    async fn prove_by_token(&self, token: &str) -> Result<(UserNid, OwnedUserId)> {
        let (hash, now_ms) = (tokens::hash(token), self.context.now_ms());
        let taken = self
            .context
            .db
            .write(move |tx| Box::pin(sessions::take_login_token(tx, hash, now_ms)))
            .await?;
        let unknown = || MatrixError::forbidden("the login token is not known, used or too old");
        let user = taken.ok_or_else(unknown)?;
        let account = accounts::find(&self.context.db, user).await?.ok_or_else(unknown)?;
        require_open(&account)?;
        Ok((user, self.context.interned.user_id(user).await?))
    }

    /// Opens a session for a user who has proven who he is. A device of that name loses the tokens
    /// it had.
    pub(super) async fn open_session(
        &self,
        user: UserNid,
        user_id: OwnedUserId,
        login: Login,
    ) -> Result<LoggedIn> {
        let Login { device_id, display_name, refreshable } = login;
        require_short(display_name.as_deref())?;
        let device_id = match device_id {
            Some(device_id) => device_id,
            None => self.context.random.alphanumeric(DEVICE_ID_LENGTH).to_uppercase().into(),
        };
        let text = device_id.as_str();
        if text.is_empty() || text.len() > DEVICE_ID_BYTES_MAX || text.contains('\0') {
            return Err(MatrixError::invalid_param("the device id is empty or too long").into());
        }
        let fresh = self.context.nids.device(&self.context.db).await?;
        let mut minted = self.mint(&user_id, fresh, refreshable, None);
        let now_ms = self.context.now_ms();
        let device = Device {
            device: fresh,
            device_id: device_id.clone(),
            display_name,
            last_seen_ts: Some(now_ms),
            last_seen_ip: None,
        };
        let devices_max = self.context.settings.limits.devices().items.max;
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                let (device, is_new) = devices::create(tx, user, device, now_ms).await?;
                let dead = if is_new {
                    // Nobody is locked out by devices that were forgotten: the one seen longest ago
                    // makes room.
                    let beyond = devices::beyond(tx, user, device, devices_max).await?;
                    lifecycle::forget(tx, &beyond).await?
                } else {
                    sessions::revoke(tx, &[device]).await?
                };
                minted.stored.device = device;
                sessions::insert(tx, minted.stored).await?;
                if is_new {
                    device_lists::changed(tx, user).await?;
                }
                Ok((minted, dead))
            })
        });
        let (minted, dead) = write.await?;
        self.cache.remove(&dead);
        let device = minted.stored.device;
        Ok(LoggedIn {
            session: Session { user_id, user, device_id, device },
            access_token: minted.access,
            refresh_token: minted.refresh,
            expires_in_ms: minted.expires_in_ms,
        })
    }

    /// Makes tokens for a device; they count once they are stored.
    pub(super) fn mint(
        &self,
        user_id: &OwnedUserId,
        device: DeviceNid,
        refreshable: bool,
        replaces: Option<sessions::TokenHash>,
    ) -> Minted {
        let random = self.context.random.as_ref();
        let access = tokens::access(user_id, random);
        let refresh = refreshable.then(|| tokens::refresh(random));
        let lifetime_ms = self.context.settings.sessions.access_token_ms;
        let expires_in_ms = refreshable.then_some(lifetime_ms);
        let expires_ts = expires_in_ms.map(|in_ms| {
            self.context.now_ms().saturating_add(i64::try_from(in_ms).unwrap_or(i64::MAX))
        });
        let stored = sessions::NewTokens {
            device,
            access: tokens::hash(&access),
            expires_ts,
            refresh: refresh.as_deref().map(tokens::hash),
            replaces,
        };
        Minted { access, refresh, expires_in_ms, stored }
    }
}

fn require_open(account: &accounts::Account) -> Result<(), MatrixError> {
    if account.deactivated {
        return Err(MatrixError::user_deactivated("this account has been deactivated"));
    }
    Ok(())
}
