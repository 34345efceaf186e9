//! Tells others the keys of servers they cannot ask themselves, with our signature added: what is kept of them, and
//! newer ones where those will run out.
//!
//! Source: Matrix v1.19, server-server, "Querying Keys Through Another Server".

use std::collections::BTreeMap;

use colonnade_model::{
    MatrixError,
    ruma::{CanonicalJsonObject, OwnedServerName, ServerName},
};
use colonnade_rooms::Result;
use colonnade_storage::federation::server_keys::{self, KeyAnswer};
use futures_util::{FutureExt as _, StreamExt as _, stream};

use super::{KeyRing, known::Names};
use crate::transport::BackoffRule;

/// Servers that one question may name.
const SERVERS_MAX: usize = 100;
/// Servers of one question that are asked at a time.
const AT_A_TIME: usize = 8;

/// Keys of one server that may be named in a question.
const KEYS_MAX: usize = 16;

/// What is wanted of a server's keys.
#[derive(Debug, Clone, Default)]
pub struct WantedAnswers {
    /// The keys by name, each with the time until which it is wanted to be valid, in milliseconds since the Unix
    /// epoch; none: all it has.
    pub keys: Names,
    /// The same of all of them; `None`: now.
    pub until_ms: Option<i64>,
}

/// What is known of a key.
struct BestAnswer {
    /// Until when it is wanted to be valid.
    until_ms: Option<i64>,
    answer: Option<KeyAnswer>,
    names_it: bool,
}

impl KeyRing {
    /// Returns what is known of the keys of servers. A server that nothing is known of is left out; keys that ran
    /// out are told if nothing better is to be had.
    ///
    /// # Errors
    /// `M_TOO_LARGE` for more than [`SERVERS_MAX`] servers.
    pub async fn vouch(
        &self,
        wanted: BTreeMap<OwnedServerName, WantedAnswers>,
    ) -> Result<Vec<CanonicalJsonObject>> {
        if wanted.len() > SERVERS_MAX {
            let why = format!("keys of at most {SERVERS_MAX} servers are told at once");
            return Err(MatrixError::too_large(why).into());
        }
        let mut looks = Vec::new();
        for (server, mut wanted) in wanted {
            while wanted.keys.len() > KEYS_MAX {
                wanted.keys.pop_last();
            }
            looks.push(self.vouch_for(server, wanted).boxed());
        }
        let mut looks = stream::iter(looks).buffered(AT_A_TIME);
        let mut told = Vec::new();
        while let Some(found) = looks.next().await {
            told.extend(found?);
        }
        Ok(told)
    }

    async fn vouch_for(
        &self,
        server: OwnedServerName,
        wanted: WantedAnswers,
    ) -> Result<Vec<CanonicalJsonObject>> {
        let context = &self.inner.context;
        if server == context.server_name {
            return Ok(vec![self.own_document().await?]);
        }
        if !self.inner.transport.policy().permits(&server) {
            return Ok(Vec::new());
        }
        let now_ms = context.now_ms();
        let mut known = self.best_answers(&server, &wanted).await?;
        let is_good = |known: &KeyAnswer, until_ms: Option<i64>| {
            let half = known.fetched_ms.midpoint(known.valid_until_ms);
            let until_ms = until_ms.unwrap_or(now_ms);
            known.valid_until_ms >= until_ms && (until_ms < now_ms || now_ms < half)
        };
        if known.is_empty()
            || !known.iter().all(|best| {
                let answer = best.answer.as_ref().filter(|_| best.names_it);
                answer.is_some_and(|answer| is_good(answer, best.until_ms))
            })
        {
            self.fetch(&server, BTreeMap::new(), BackoffRule::Kept).await;
            known = self.best_answers(&server, &wanted).await?;
        }
        let mut told: Vec<Vec<u8>> = Vec::new();
        for answer in known.into_iter().filter_map(|best| best.answer) {
            if !told.contains(&answer.answer) {
                told.push(answer.answer);
            }
        }
        let mut documents = Vec::new();
        for answer in told {
            // Whoever wrote it was we.
            let Ok(mut object) = serde_json::from_slice(&answer) else { continue };
            self.sign(&mut object)?;
            documents.push(object);
        }
        Ok(documents)
    }

    /// Returns for each key that is wanted the answer that is best: that which names it and is valid longest, else
    /// the newest one.
    async fn best_answers(
        &self,
        server: &ServerName,
        wanted: &WantedAnswers,
    ) -> Result<Vec<BestAnswer>> {
        let db = &self.inner.context.db;
        let newest = server_keys::answer(db, server.as_str()).await?;
        if wanted.keys.is_empty() {
            let until_ms = wanted.until_ms;
            return Ok(vec![BestAnswer { until_ms, answer: newest, names_it: true }]);
        }
        let key_ids: Vec<String> = wanted.keys.keys().cloned().collect();
        let naming = server_keys::answers_naming(db, server.as_str(), &key_ids).await?;
        let naming: BTreeMap<String, KeyAnswer> = naming.into_iter().collect();
        let best = wanted.keys.iter().map(|(key_id, until_ms)| {
            let naming = naming.get(key_id).cloned();
            let names_it = naming.is_some();
            let answer = naming.or_else(|| newest.clone());
            BestAnswer { until_ms: until_ms.or(wanted.until_ms), answer, names_it }
        });
        Ok(best.collect())
    }
}
