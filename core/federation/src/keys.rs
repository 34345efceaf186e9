//! Signing keys: this server's own as others ask for them, and those of other servers, fetched, checked and
//! remembered. It may import `transport`.
//!
//! A key is looked for in memory, in the database, at its server, and at the servers that the configuration
//! names for it, in that order; one request for all who wait. What a server signed may be looked at for ever, so
//! a key that ran out stays known: until when it was valid decides what it proves.
//!
//! Source: Matrix v1.19, server-server, "Retrieving server keys".

mod fetch;
mod known;
mod notary;
mod own;
mod published;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::ruma::{OwnedServerName, ServerName, serde::Base64};
use colonnade_rooms::{Context, Result};
use colonnade_storage::federation::server_keys;
use futures_util::{
    FutureExt as _, StreamExt as _,
    future::{self, BoxFuture},
    stream,
};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::transport::{
    BackoffRule, Transport,
    authorization::{AuthorizationError, Signed, XMatrix},
};
use known::{Key, Names, Pause, ServerKeys, has_all};

pub use known::{VerificationKeys, WantedKey};
pub use notary::WantedAnswers;
pub use published::{Published, read_published};

/// Servers whose keys are in memory, about 300 bytes each: those of the rooms that are busy.
const SERVERS_MAX: usize = 20_000;
/// Servers that are asked for their keys at a time.
const FETCHES_MAX: usize = 32;
/// Servers that one caller waits for at a time.
const WAITS_MAX: usize = 16;

/// The keys of this server and of others. Cheap to clone.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    transport: Transport,
    known: Cache<OwnedServerName, Arc<ServerKeys>>,
    /// Servers that are left alone for a while after they were asked.
    pauses: Cache<OwnedServerName, Pause>,
    under_way: Mutex<HashMap<OwnedServerName, future::Shared<BoxFuture<'static, ()>>>>,
    turns: Semaphore,
}

impl KeyRing {
    /// Begins with what the database has.
    pub fn new(context: Arc<Context>, transport: Transport) -> Self {
        let inner = Shared {
            context,
            transport,
            known: Cache::new(SERVERS_MAX),
            pauses: Cache::new(SERVERS_MAX),
            under_way: Mutex::default(),
            turns: Semaphore::new(FETCHES_MAX),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Looks for keys. Those that cannot be found are not in what is returned; those that are not valid at
    /// the time that is wanted may be.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verification_keys(&self, wanted: &[WantedKey]) -> Result<VerificationKeys> {
        self.look_up(wanted, BackoffRule::Kept).await
    }

    async fn look_up(
        &self,
        wanted: &[WantedKey],
        backoff: BackoffRule,
    ) -> Result<VerificationKeys> {
        let mut by_server: BTreeMap<OwnedServerName, Names> = BTreeMap::new();
        for WantedKey { server, key_id, valid_at_ms } in wanted {
            let names = by_server.entry(server.clone()).or_default();
            let latest = names.entry(key_id.clone()).or_default();
            *latest = (*latest).max(*valid_at_ms);
        }
        let mut looks = Vec::new();
        for (server, names) in by_server {
            looks.push(self.of_server(server, names, backoff).boxed());
        }
        let mut looks = stream::iter(looks).buffer_unordered(WAITS_MAX);
        let mut found = BTreeMap::new();
        while let Some(looked) = looks.next().await {
            let (server, keys) = looked?;
            found.insert(server, keys);
        }
        Ok(VerificationKeys(found))
    }

    async fn of_server(
        &self,
        server: OwnedServerName,
        names: Names,
        backoff: BackoffRule,
    ) -> Result<(OwnedServerName, Arc<ServerKeys>)> {
        if server == self.inner.context.server_name {
            let own = self.own_keys().await?;
            return Ok((server, Arc::new(own)));
        }
        if let Some(known) = self.inner.known.get(&server)
            && has_all(&known, &names)
        {
            return Ok((server, known));
        }
        // Another process may have asked for them.
        let known = self.read(&server).await?;
        if has_all(&known, &names) {
            return Ok((server, known));
        }
        self.fetch(&server, names, backoff).await;
        let known = match self.inner.known.get(&server) {
            Some(known) => known,
            None => self.read(&server).await?,
        };
        Ok((server, known))
    }

    /// Reads what the database has of a server.
    async fn read(&self, server: &ServerName) -> Result<Arc<ServerKeys>> {
        let rows = server_keys::of(&self.inner.context.db, server.as_str()).await?;
        let keys = rows.into_iter().map(|row| {
            let (public, valid_until_ms) = (Base64::new(row.public_key), row.valid_until_ms);
            (row.key_id, Key { public, valid_until_ms })
        });
        let keys = Arc::new(keys.collect::<ServerKeys>());
        self.inner.known.insert(server.to_owned(), Arc::clone(&keys));
        Ok(keys)
    }

    /// Makes sure that a request is of the server it names.
    ///
    /// # Errors
    /// [`AuthorizationError`] in the inner result when it is not; when the database fails in the outer.
    pub async fn verify_request(
        &self,
        signed: Signed<'_>,
        headers: &[XMatrix],
    ) -> Result<Result<(), AuthorizationError>> {
        if let Err(error) = signed.require_destination(headers) {
            return Ok(Err(error));
        }
        let now_ms = self.inner.context.now_ms();
        let wanted = headers.iter().map(|header| WantedKey {
            server: header.origin.clone(),
            key_id: header.key_id.clone(),
            valid_at_ms: Some(now_ms),
        });
        let wanted: Vec<WantedKey> = wanted.collect();
        // Whoever asks is there.
        let keys = self.look_up(&wanted, BackoffRule::Ignored).await?;
        Ok(signed.verify(headers, |key_id| keys.key(signed.origin, key_id, Some(now_ms))))
    }
}

#[cfg(test)]
mod tests;
