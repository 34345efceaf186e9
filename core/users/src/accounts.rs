//! Accounts: who exists, who is logged in, and how somebody proves to be who they say. Devices as
//! things people look at are in `devices`; profiles in `profiles`.
//!
//! Invariants:
//! 1. A token is never stored, cached or logged, only its hash.
//! 2. A token that was revoked is refused from the moment the revoking call returns.
//! 3. Passwords are hashed two at a time at most, away from the threads that answer requests.

mod attempts;
mod auth;
mod cache;
mod cleared;
mod guests;
pub(crate) mod lifecycle;
mod login;
pub mod names;
mod new_account;
mod passwords;
mod refresh;
mod register;
mod registration_tokens;
mod restrictions;
mod seen;
pub mod shared_secret;
mod tokens;
pub mod uia;

use std::{net::IpAddr, sync::Arc};

use colonnade_model::{
    MatrixError,
    ruma::UserId,
    stream::{Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use colonnade_rooms::{Context, Result, generation_cache::GenerationCache};
use colonnade_storage::{
    database::metrics::CacheFigures,
    users::{accounts, sessions},
};

pub use attempts::Origin;
pub use auth::Auth;
pub use colonnade_storage::users::accounts::Account;
pub use login::{LoggedIn, Login, Proof};
pub use register::{Admission, Registration};
pub use restrictions::RestrictionKind;
pub use seen::Seen;

pub use colonnade_model::session::Session;

use crate::limits::Limits;

/// Accounts and their sessions.
pub struct Accounts {
    context: Arc<Context>,
    cache: GenerationCache<sessions::TokenHash, Arc<cache::Cached>>,
    passwords: Arc<passwords::Passwords>,
    attempts: Arc<attempts::Attempts>,
    /// Proofs for requests that need more than an access token.
    pub uia: uia::Uia,
    /// When devices were last seen.
    pub seen: Arc<Seen>,
}

impl Accounts {
    /// Begins with no session in memory; proofs that fail count against `limits`.
    pub fn new(context: Arc<Context>, limits: Arc<Limits>) -> Self {
        let passwords = Arc::new(passwords::Passwords::new(Arc::clone(&context)));
        let attempts = attempts::Attempts::new(Arc::clone(&context), limits);
        let attempts = Arc::new(attempts);
        let (checks, tries) = (Arc::clone(&passwords), Arc::clone(&attempts));
        Self {
            cache: GenerationCache::new(cache::CACHED_MAX),
            uia: uia::Uia::new(Arc::clone(&context), checks, tries),
            passwords,
            attempts,
            seen: Seen::start(Arc::clone(&context)),
            context,
        }
    }

    /// Returns how well the cache of sessions does.
    pub fn cache_figures(&self) -> CacheFigures {
        self.cache.figures("sessions")
    }

    /// Returns the session an access token belongs to.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN` when there is none, with `soft_logout` when the token only expired.
    pub async fn authenticate(&self, token: &str) -> Result<Session> {
        self.authenticate_from(token, None).await
    }

    /// Returns the session an access token belongs to, and notes where it was used.
    ///
    /// # Errors
    /// As [`Accounts::authenticate`].
    pub async fn authenticate_from(&self, token: &str, from: Option<IpAddr>) -> Result<Session> {
        let now_ms = self.context.now_ms();
        let hash = tokens::hash(token);
        let known = match self.cache.get(&hash) {
            Some(known) => known,
            None => self.load_session(hash).await?,
        };
        if known.expires_ts.is_some_and(|expires_ts| expires_ts <= now_ms) {
            let error = MatrixError::unknown_token("the access token has expired; refresh it");
            return Err(error.with("soft_logout", true).into());
        }
        if known.is_news(now_ms) {
            self.seen.note(known.session.device, now_ms, from);
        }
        // The request's line in the log names its user.
        tracing::Span::current().record("user", known.session.user_id.as_str());
        Ok(Session { address: from, ..known.session.clone() })
    }

    /// Tells whether this process has the session of an access token in memory.
    pub fn remembers(&self, token: &str) -> bool {
        let known = self.cache.get(&tokens::hash(token));
        known.is_some_and(|known| known.expires_ts.is_none_or(|ts| ts > self.context.now_ms()))
    }

    /// Reads a session from the database and remembers it.
    async fn load_session(&self, hash: sessions::TokenHash) -> Result<Arc<cache::Cached>> {
        let generation = self.cache.generation();
        let Some(row) = sessions::find(&self.context.db, hash).await? else {
            return Err(MatrixError::unknown_token("the access token is not known").into());
        };
        if let Some(replaced) = row.replaces {
            self.retire(row.device, replaced).await?;
        }
        let session = Session {
            user_id: row.user_id,
            user: row.user,
            device_id: row.device_id,
            device: row.device,
            is_guest: row.is_guest,
            restriction: row.restriction,
            address: None,
        };
        let known = Arc::new(cache::Cached::new(session, row.expires_ts));
        self.cache.insert(generation, hash, Arc::clone(&known));
        Ok(known)
    }

    /// Returns the account of a local user, deactivated or not.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&self, user_id: &UserId) -> Result<Option<Account>> {
        if user_id.server_name() != self.context.server_name {
            return Ok(None);
        }
        let Some(user) = self.context.interned.find_user(user_id).await? else {
            return Ok(None);
        };
        Ok(accounts::find(&self.context.db, user).await?)
    }
}

/// Forgets sessions that another process ended.
impl Subscriber for Accounts {
    fn advanced(&self, advance: &StreamAdvance) {
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::Stale(device), _) => {
                    self.cache.remove_where(|known| known.session.device == *device);
                }
                (Touch::Anybody, Stream::ToDevice) => self.cache.clear(),
                _ => {}
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.cache.clear();
    }
}
