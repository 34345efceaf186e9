//! Logging in: a password or a login token becomes a device with an access token.

use std::net::IpAddr;

use colonnade_model::session::{Restriction, Session};
use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, UserNid},
    ruma::{OwnedDeviceId, OwnedUserId},
};
use colonnade_rooms::{Error, Result, quotas::signed};
use colonnade_storage::{
    keys::device_lists,
    users::{
        accounts,
        devices::{self, Device},
        login_addresses, sessions,
    },
};

use super::{Accounts, Origin, attempts, lifecycle, names, passwords::wrong, tokens};

/// What a session is called whose client says nothing about itself.
const UNNAMED: &str = "unnamed";

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

/// A request to log in.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// The device to log in as; a new one when `None`.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device.
    pub display_name: Option<String>,
    /// The client can refresh its access token.
    pub refreshable: bool,
    /// Where it comes from.
    pub address: Option<IpAddr>,
}

/// Somebody who has proven who he is.
pub(super) struct Proven {
    pub(super) user: UserNid,
    pub(super) user_id: OwnedUserId,
    /// The stored password that was his when he proved it; `None` when it was not by password.
    pub(super) password: Option<String>,
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
    pub async fn login(&self, proof: Proof, login: Login, origin: &Origin) -> Result<LoggedIn> {
        let proven = match proof {
            Proof::Password { user, password } => {
                self.prove_by_password(&user, &password, origin).await?
            }
            Proof::Token(token) => self.prove_by_token(&token, origin).await?,
        };
        let login = Login { address: origin.address, ..login };
        self.open_session(proven, login).await
    }

    /// Makes a token that logs the user in once, on another device, unless the session that makes it
    /// ends before.
    ///
    /// Source: Matrix v1.19, client-server, `POST /_matrix/client/v1/login/get_token`.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN` when the session has ended.
    pub async fn login_token(&self, session: &Session) -> Result<(String, u64)> {
        let token = tokens::login(self.context.random.as_ref());
        let (user, now_ms) = (session.user, self.context.now_ms());
        let stored = sessions::LoginToken {
            hash: tokens::hash(&token),
            user,
            device: session.device,
            expires_ts: now_ms + LOGIN_TOKEN_MS,
        };
        let count_max = signed(self.context.settings.limits.login_tokens_max);
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                let is_stored = sessions::insert_login_token(tx, stored, now_ms).await?;
                sessions::keep_login_tokens(tx, user, count_max).await?;
                Ok(is_stored)
            })
        });
        if !write.await? {
            return Err(MatrixError::unknown_token("the access token is not known").into());
        }
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

    /// Returns whom a token stands for that [`Accounts::openid_token`] made.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN`.
    pub async fn of_openid_token(&self, token: &str) -> Result<OwnedUserId> {
        let (db, now_ms) = (&self.context.db, self.context.now_ms());
        let user = sessions::find_openid_token(db, tokens::hash(token), now_ms).await?;
        let unknown = || MatrixError::unknown_token("the token is not known, or expired");
        Ok(self.context.interned.user_id(user.ok_or_else(unknown)?).await?)
    }

    async fn prove_by_password(
        &self,
        name: &str,
        password: &str,
        origin: &Origin,
    ) -> Result<Proven> {
        let mut named = None;
        for user_id in names::login_candidates(name, &self.context.server_name) {
            if let Some(account) = self.find(&user_id).await? {
                named = Some((account, user_id));
                break;
            }
        }
        let user = named.as_ref().map(|(account, _)| account.user);
        let user_id = named.as_ref().map(|(_, user_id)| user_id.clone());
        let user_id = user_id.or_else(|| attempts::nobody(name, &self.context));
        let attempt = self.attempts.begin(user, user_id.as_ref(), origin).await?;
        // Somebody we do not know takes the time a wrong password takes.
        let stored = named.as_ref().and_then(|(account, _)| account.password.clone());
        match named {
            Some((account, user_id)) if self.passwords.verify(password, stored.clone()).await? => {
                attempt.was_right();
                self.require_open(&account).await?;
                Ok(Proven { user: account.user, user_id, password: stored })
            }
            Some(_) => Err(failed(user_id, name, origin)),
            None => {
                self.passwords.verify(password, None).await?;
                Err(failed(user_id, name, origin))
            }
        }
    }

    async fn prove_by_token(&self, token: &str, origin: &Origin) -> Result<Proven> {
        let attempt = self.attempts.begin(None, None, origin).await?;
        let (hash, now_ms) = (tokens::hash(token), self.context.now_ms());
        let taken = self
            .context
            .db
            .write(move |tx| Box::pin(sessions::take_login_token(tx, hash, now_ms)))
            .await?;
        let unknown = || MatrixError::forbidden("the login token is not known, used or too old");
        let user = taken.ok_or_else(unknown)?;
        attempt.was_right();
        let account = accounts::find(&self.context.db, user).await?.ok_or_else(unknown)?;
        self.require_open(&account).await?;
        let user_id = self.context.interned.user_id(user).await?;
        Ok(Proven { user, user_id, password: None })
    }

    /// Makes sure that an account is in use and not locked.
    async fn require_open(&self, account: &accounts::Account) -> Result<()> {
        if account.deactivated {
            let why = "this account has been deactivated";
            return Err(MatrixError::user_deactivated(why).into());
        }
        let lock = accounts::RestrictionKind::Lock;
        match accounts::is_restricted(&self.context.db, account.user, lock).await? {
            true => {
                let locked = MatrixError::user_locked("this account has been locked");
                Err(locked.with("soft_logout", true).into())
            }
            false => Ok(()),
        }
    }

    /// Opens a session for a user who has proven who he is. A device of that name loses the tokens
    /// it had.
    pub(super) async fn open_session(&self, proven: Proven, login: Login) -> Result<LoggedIn> {
        let Proven { user, user_id, password } = proven;
        let Login { device_id, display_name, refreshable, address } = login;
        names::require_short_device_name(display_name.as_deref())?;
        let display_name = display_name.filter(|name| !name.is_empty());
        let display_name = Some(display_name.unwrap_or_else(|| UNNAMED.to_owned()));
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
            last_seen_ip: address.map(|address| address.to_string()),
        };
        let devices_max = self.context.settings.limits.devices().items.max;
        let network = address.map(attempts::network);
        let device_name = device_id.to_string();
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                // A password that was changed meanwhile, which ended all sessions, opens none.
                if !accounts::is_current(tx, user, password.as_deref()).await? {
                    return Ok(None);
                }
                if let Some(network) = network {
                    login_addresses::note(tx, user, network, now_ms).await?;
                }
                let (device, is_new) = devices::create(tx, user, device, now_ms).await?;
                let (mut changed, mut forgotten) = (Vec::new(), Vec::new());
                let dead = if is_new {
                    changed.push(device_name);
                    // Nobody is locked out by devices that were forgotten: the one seen longest ago
                    // makes room.
                    let beyond = devices::beyond(tx, user, device, devices_max).await?;
                    forgotten = devices::names(tx, &beyond).await?;
                    changed.extend(forgotten.iter().cloned());
                    lifecycle::forget(tx, &beyond).await?
                } else {
                    sessions::revoke(tx, &[device]).await?
                };
                minted.stored.device = device;
                sessions::insert(tx, minted.stored).await?;
                if is_new {
                    lifecycle::forget_settings(tx, user, &forgotten).await?;
                    device_lists::changed(tx, user, &changed).await?;
                }
                Ok(Some((minted, dead)))
            })
        });
        let (minted, dead) = write.await?.ok_or_else(wrong)?;
        self.cache.remove(&dead);
        let device = minted.stored.device;
        Ok(LoggedIn {
            session: Session {
                user_id,
                user,
                device_id,
                device,
                is_guest: false,
                restriction: Restriction::None,
                address,
            },
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

/// Notes that somebody failed to log in.
fn failed(user_id: Option<OwnedUserId>, name: &str, origin: &Origin) -> Error {
    attempts::log_failure(user_id.as_ref().map_or(name, |id| id.as_str()), origin.address);
    wrong().into()
}
