//! Asks servers for their keys: each itself, and else those that the configuration names. One request for all
//! who wait, and a pause after each, longer after each that failed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use colonnade_model::ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, ServerName, serde::Base64,
};
use colonnade_rooms::Error;
use colonnade_storage::federation::server_keys::{self, KeyAnswer, ServerKey};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::json;

use super::{
    KeyRing,
    known::{Key, Names, Pause, ServerKeys, WantedKey},
    published::{self, Published, read_published},
};
use crate::transport::{BackoffRule, Request, TransportError};

/// How long a server may take to tell its keys.
const WITHIN: Duration = Duration::from_secs(15);
/// How large such an answer may be, in bytes: a key takes a hundred.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How often a server is asked that answers, in how many milliseconds: what it did not name it hardly has a moment
/// later, but others may want to know that of this server as their notary.
const ANSWERED_MAX: (u32, i64) = (10, 60 * 1_000);
/// The first pause after a failure, in milliseconds.
const FAILED_MIN_MS: i64 = 10 * 1_000;
/// The longest.
const FAILED_MAX_MS: i64 = 60 * 60 * 1_000;

impl KeyRing {
    /// Asks for the keys of a server, unless it was asked a short while ago, and waits until that is done.
    pub(super) async fn fetch(&self, server: &ServerName, wanted: Names, backoff: BackoffRule) {
        let now_ms = self.inner.context.now_ms();
        if self.inner.pauses.get(server).is_some_and(|pause| now_ms < pause.until_ms) {
            return;
        }
        let asked = {
            let mut under_way = self.inner.under_way.lock();
            match under_way.get(server) {
                Some(asked) => asked.clone(),
                None => {
                    let asked = self.asked(server.to_owned(), wanted, backoff).shared();
                    under_way.insert(server.to_owned(), asked.clone());
                    // It goes on when whoever asked gives up.
                    tokio::spawn(asked.clone());
                    asked
                }
            }
        };
        asked.await;
    }

    /// Boxed with its type named, for a notary's own keys are asked for in the same way.
    fn asked(
        &self,
        server: OwnedServerName,
        wanted: Names,
        backoff: BackoffRule,
    ) -> BoxFuture<'static, ()> {
        let ring = self.clone();
        Box::pin(async move {
            ring.fetch_now(&server, &wanted, backoff).await;
            ring.inner.under_way.lock().remove(&server);
        })
    }

    async fn fetch_now(&self, server: &OwnedServerName, wanted: &Names, backoff: BackoffRule) {
        let Ok(_turn) = self.inner.turns.acquire().await else { return };
        let fetched = match self.fetch_directly(server, backoff).await {
            Ok(()) => Ok(()),
            Err(error) => match self.fetch_from_others(server, wanted).await {
                true => Ok(()),
                false => Err(error),
            },
        };
        let now_ms = self.inner.context.now_ms();
        let before = self.inner.pauses.get(server).unwrap_or_default();
        let pause = match fetched {
            Ok(()) => before.after_answer(ANSWERED_MAX, now_ms),
            Err(error @ TransportError::Status { status: 400..=428, .. }) => {
                tracing::info!(%server, %error, "a server does not tell its keys");
                before.after_answer(ANSWERED_MAX, now_ms)
            }
            Err(error) => {
                let doubled = before.failed_ms.saturating_mul(2);
                let failed_ms = doubled.clamp(FAILED_MIN_MS, FAILED_MAX_MS);
                tracing::info!(%server, %error, failed_ms, "the keys of a server are not known");
                Pause { until_ms: now_ms.saturating_add(failed_ms), failed_ms, ..before }
            }
        };
        self.inner.pauses.insert(server.clone(), pause);
    }

    async fn fetch_directly(
        &self,
        server: &ServerName,
        backoff: BackoffRule,
    ) -> Result<(), TransportError> {
        let request = Request::get("/_matrix/key/v2/server").within(WITHIN);
        let request = Request { backoff, ..request.taking(ANSWER_BYTES_MAX) };
        let response = self.inner.transport.send(server, request).await?;
        let object: CanonicalJsonObject = response.json().await?;
        let published = read_published(&object, server, self.inner.context.now_ms());
        let published = published.map_err(|why| TransportError::Malformed(why.to_owned()))?;
        self.keep(server, object, published).await
    }

    /// Asks the servers that the configuration names; says whether one of them knew something newer than we.
    async fn fetch_from_others(&self, server: &ServerName, wanted: &Names) -> bool {
        for notary in &self.inner.context.settings.federation.key_perspectives {
            if *notary == *server || *notary == self.inner.context.server_name {
                continue;
            }
            match Box::pin(self.ask_notary(notary, server, wanted)).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::info!(%notary, %server, %error, "a notary does not know a server's keys");
                }
            }
        }
        false
    }

    async fn ask_notary(
        &self,
        notary: &OwnedServerName,
        server: &ServerName,
        wanted: &Names,
    ) -> Result<bool, TransportError> {
        let now_ms = self.inner.context.now_ms();
        let criteria = wanted.iter().map(|(key_id, at_ms)| {
            (key_id.clone(), json!({ "minimum_valid_until_ts": at_ms.unwrap_or(now_ms) }))
        });
        let criteria: serde_json::Map<_, _> = criteria.collect();
        let wanted = json!({ "server_keys": { server.as_str(): criteria } });
        let request = Request::post("/_matrix/key/v2/query", &wanted)?;
        let request = request.within(WITHIN).taking(ANSWER_BYTES_MAX);
        let response = self.inner.transport.send(notary, request).await?;
        let mut answer: BTreeMap<String, CanonicalJsonValue> = response.json().await?;
        let Some(CanonicalJsonValue::Array(answers)) = answer.remove("server_keys") else {
            return Err(TransportError::Malformed("server_keys is missing".to_owned()));
        };
        let malformed = |why: &str| TransportError::Malformed(why.to_owned());
        for answer in answers {
            let CanonicalJsonValue::Object(object) = answer else { continue };
            let Ok(published) = read_published(&object, server, now_ms) else { continue };
            self.require_notary(notary, &object).await.map_err(malformed)?;
            let known = server_keys::answer(&self.inner.context.db, server.as_str()).await;
            let known = known.map_err(|_| malformed("the database fails"))?;
            // An answer of before must not take back what is known since.
            if known.is_some_and(|known| known.valid_until_ms > published.valid_until_ms) {
                continue;
            }
            self.keep(server, object, published).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes sure that a notary signed what it says.
    async fn require_notary(
        &self,
        notary: &OwnedServerName,
        object: &CanonicalJsonObject,
    ) -> Result<(), &'static str> {
        let Some(CanonicalJsonValue::Object(signatures)) = object.get("signatures") else {
            return Err("it is not signed");
        };
        let Some(CanonicalJsonValue::Object(of_it)) = signatures.get(notary.as_str()) else {
            return Err("it is not signed by the notary");
        };
        let now_ms = self.inner.context.now_ms();
        let wanted = of_it.keys().map(|key_id| WantedKey {
            server: notary.clone(),
            key_id: key_id.clone(),
            valid_at_ms: Some(now_ms),
        });
        let wanted: Vec<WantedKey> = wanted.collect();
        let found = self.verification_keys(&wanted).await.map_err(|_| "the database fails")?;
        let keys = wanted.into_iter().filter_map(|WantedKey { key_id, .. }| {
            let public = found.key(notary, &key_id, Some(now_ms))?;
            Some(ServerKey { key_id, public_key: public.into_inner(), valid_until_ms: now_ms })
        });
        published::require_signature(object, notary, &keys.collect::<Vec<_>>())
    }

    /// Keeps what a server published.
    async fn keep(
        &self,
        server: &ServerName,
        object: CanonicalJsonObject,
        published: Published,
    ) -> Result<(), TransportError> {
        let Published { keys, valid_until_ms } = published;
        let answer = serde_json::to_vec(&object);
        let answer = answer.map_err(|error| TransportError::Malformed(error.to_string()))?;
        let fetched_ms = self.inner.context.now_ms();
        let answer = KeyAnswer { answer, fetched_ms, valid_until_ms };
        let db = &self.inner.context.db;
        let before = self.read(server).await.unwrap_or_default();
        let kept = server_keys::keep(db, server.as_str(), keys.clone(), answer).await;
        if let Err(error) = kept {
            tracing::warn!(error = %Error::from(error), "cannot keep a server's keys");
        }
        let mut now: ServerKeys = (*before).clone();
        for ServerKey { key_id, public_key, valid_until_ms } in keys {
            let public = Base64::new(public_key);
            match now.get_mut(&key_id) {
                // A key's public half never changes.
                Some(known) if known.public.as_bytes() != public.as_bytes() => {
                    tracing::warn!(%server, key_id, "a server published another key by an old name");
                }
                Some(known) => known.valid_until_ms = valid_until_ms,
                None => drop(now.insert(key_id, Key { public, valid_until_ms })),
            }
        }
        self.inner.known.insert(server.to_owned(), Arc::new(now));
        Ok(())
    }
}
