//! Whose an access token is, when the token itself does not say: asked of a worker once
//! (`GET /_matrix/client/v3/account/whoami`; Matrix v1.19, client-server, §Account management), then
//! remembered. All that hangs on it is to which worker a request goes and whose rate it uses; who is
//! let in is the workers' business. Without an answer the token stands for itself.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;

use crate::upstream::pools::Pool;
use crate::upstream::worker_client;

/// Tokens remembered: about 10 MB.
const TOKENS_MAX: usize = 100_000;

/// A token tells the same user as long as it lives; asked again in case it belonged to nobody yet.
const KNOWN_MS: u64 = 600_000;

/// That a token tells nobody is asked again soon: the worker may have been busy.
const UNKNOWN_MS: u64 = 10_000;

/// Questions under way; beyond that tokens stand for themselves. Whoever invents tokens asks no more of
/// the workers than this.
const ASKING_MAX: usize = 32;

/// How long a request waits for the answer: knowing the user saves less than that.
const PATIENCE: Duration = Duration::from_secs(1);

/// An answer has one short id.
const ANSWER_BYTES_MAX: usize = 4_096;

/// What is asked.
const TARGET: &str = "/_matrix/client/v3/account/whoami";

#[derive(Clone)]
struct CachedUser {
    user: Option<Arc<str>>,
    until_ms: u64,
}

/// The users of tokens asked about.
pub struct Users {
    /// Of hashes: no token stays in memory for it.
    known: Cache<u64, CachedUser>,
    hasher: RandomState,
    asking: Semaphore,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Users").field("known", &self.known.len()).finish_non_exhaustive()
    }
}

impl Default for Users {
    fn default() -> Self {
        Self {
            known: Cache::new(TOKENS_MAX),
            hasher: RandomState::new(),
            asking: Semaphore::new(ASKING_MAX),
        }
    }
}

impl Users {
    /// The user of a token that came from `client`, as remembered or as a worker of this pool says. The
    /// worker counts tokens that nobody knows by where they came from.
    pub async fn of(
        &self,
        token: &str,
        client: IpAddr,
        pool: &Pool,
        now_ms: u64,
    ) -> Option<Arc<str>> {
        let hash = self.hasher.hash_one(token);
        if let Some(known) = self.known.get(&hash).filter(|known| known.until_ms > now_ms) {
            return known.user;
        }
        let _turn = self.asking.try_acquire().ok()?;
        let user = ask(token, client, pool, now_ms).await;
        let lasts = if user.is_some() { KNOWN_MS } else { UNKNOWN_MS };
        self.known.insert(hash, CachedUser { user: user.clone(), until_ms: now_ms + lasts });
        user
    }
}

async fn ask(token: &str, client: IpAddr, pool: &Pool, now_ms: u64) -> Option<Arc<str>> {
    let (_, in_flight) = pool.take(None, &[], false, now_ms)?;
    let bearer = format!("Bearer {token}");
    let client = client.to_string();
    let headers = [("authorization", bearer.as_str()), ("x-forwarded-for", client.as_str())];
    let address = in_flight.member().address.clone();
    let asked = worker_client::ask(&address, TARGET, &headers, PATIENCE, ANSWER_BYTES_MAX).await;
    // What it means for the worker's health, requests will tell.
    in_flight.ended(pool, None, now_ms);
    let answer = asked.ok().filter(|answer| answer.status == 200)?;
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    body["user_id"].as_str().filter(|user| user.starts_with('@')).map(Arc::from)
}
