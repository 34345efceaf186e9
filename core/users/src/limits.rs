//! Limits on how often something may be done: one token bucket per class and per user or address,
//! in memory. What is forgotten, at a restart or when there are too many, starts full.
//!
//! Processes of one deployment tell each other what they took, and each takes it from its own bucket,
//! too: so a limit holds for all of them together, beyond what is taken at the same moment. What is
//! tried by guessing is told at once, the rest four times a second.
//!
//! Source: Matrix v1.19, client-server, "Rate limiting".

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use colonnade_model::{MatrixError, nid::UserNid};
use colonnade_replication::ephemeral::{Channel, Receivers};
use colonnade_rooms::{Context, Result, settings::Rate};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

/// Tells other processes what was taken from which buckets.
static CHANNEL: Channel<Vec<(Class, Key, u32)>> = Channel::new("Taken");
/// Buckets kept in memory, about 100 bytes each: the callers of the last minutes on a large server.
const BUCKETS_MAX: usize = 100_000;
/// How often others are told what was taken.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Buckets told of in one message, of some 40 bytes each.
const BUCKETS_SENT_MAX: usize = 500;

mod attempt;

pub use attempt::Attempt;

/// What is limited together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// Proving who one is and failing.
    Login,
    /// Registering.
    Registration,
    /// Sending events and to-device messages.
    Message,
    /// Joining, inviting, knocking and creating rooms.
    Join,
    /// Uploading files.
    Media,
    /// Claiming one-time keys, by each user from each device.
    Claim,
    /// Everything else that writes or searches.
    Other,
    /// Whatever is asked without a valid access token.
    Stranger,
    /// What another server asks.
    Federation,
}

/// Who is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Key {
    /// A user.
    User(UserNid),
    /// An address; IPv6 addresses of one /64 network count as one.
    Address(IpAddr),
    /// Something else by its hash, such as an account as seen from an address.
    Name(u64),
}

impl Key {
    /// Makes the key of something that has a name only.
    pub fn name(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        let first = hash.as_bytes().first_chunk().expect("a hash has more than 8 bytes");
        Self::Name(u64::from_le_bytes(*first))
    }
}

impl From<UserNid> for Key {
    fn from(user: UserNid) -> Self {
        Self::User(user)
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
            v4 => v4,
        })
    }
}

/// A bucket of tokens that fills by itself.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    fn full(rate: Rate, now_ms: i64) -> Self {
        Self { tokens: f64::from(rate.burst), at_ms: now_ms }
    }

    /// Adds what has grown since the last time.
    fn grow(&mut self, rate: Rate, now_ms: i64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        let grown = self.tokens + passed_ms as f64 * rate.per_second / 1_000.0;
        self.tokens = grown.min(f64::from(rate.burst));
        self.at_ms = now_ms;
    }

    /// Notes that others took tokens. Debts are no larger than a burst.
    fn taken_by_others(&mut self, rate: Rate, now_ms: i64, count: u32) {
        self.grow(rate, now_ms);
        self.tokens = (self.tokens - f64::from(count)).max(-f64::from(rate.burst));
    }

    /// Takes tokens, all or none.
    ///
    /// # Errors
    /// How long it takes until there are enough, in milliseconds.
    fn take(&mut self, rate: Rate, now_ms: i64, count: u32) -> Result<(), u64> {
        self.grow(rate, now_ms);
        let count = f64::from(count);
        if self.tokens >= count {
            self.tokens -= count;
            return Ok(());
        }
        let missing_ms = (count - self.tokens) / rate.per_second.max(1e-6) * 1_000.0;
        // Not negative, and a float that is too large becomes the largest integer.
        Err(missing_ms.ceil() as u64)
    }
}

/// The limits.
pub struct Limits {
    context: Arc<Context>,
    buckets: Cache<(Class, Key), Arc<Mutex<Bucket>>>,
    /// Those of what is tried by guessing: nobody makes us forget them by filling the others.
    guesses: Cache<(Class, Key), Arc<Mutex<Bucket>>>,
    /// What others have not been told of yet.
    unsent: Mutex<HashMap<(Class, Key), u32>>,
}

impl Limits {
    /// Begins with full buckets, and to tell other processes what is taken.
    pub fn start(context: Arc<Context>) -> Arc<Self> {
        let is_shared = context.streams.is_shared();
        let (buckets, guesses) = (Cache::new(BUCKETS_MAX), Cache::new(BUCKETS_MAX));
        let limits = Arc::new(Self { context, buckets, guesses, unsent: Mutex::default() });
        if is_shared {
            let weak = Arc::downgrade(&limits);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(TELL_EVERY).await;
                    let Some(limits) = weak.upgrade() else { return };
                    limits.tell();
                }
            });
        }
        limits
    }

    /// Tells the other processes what was taken here.
    fn tell(&self) {
        let unsent = std::mem::take(&mut *self.unsent.lock());
        let unsent: Vec<_> = unsent.into_iter().map(|((class, key), n)| (class, key, n)).collect();
        for some in unsent.chunks(BUCKETS_SENT_MAX) {
            CHANNEL.send(&self.context.streams, &some.to_vec());
        }
    }

    /// Takes in what other processes say of limits.
    #[must_use]
    pub fn listen(self: &Arc<Self>, receivers: Receivers) -> Receivers {
        receivers.on(&CHANNEL, self, Self::heard)
    }

    /// Notes what another process took.
    pub(crate) fn heard(&self, taken: Vec<(Class, Key, u32)>) {
        let now_ms = self.context.now_ms();
        for (class, key, count) in &taken {
            let rate = self.rate(*class);
            self.bucket((*class, *key), now_ms).lock().taken_by_others(rate, now_ms, *count);
        }
    }

    /// Returns how often it may be done at once, now.
    pub fn left(&self, class: Class, key: impl Into<Key>) -> f64 {
        self.bucket((class, key.into()), self.context.now_ms()).lock().tokens
    }

    fn rate(&self, class: Class) -> Rate {
        let limits = &self.context.settings.rate_limits;
        match class {
            Class::Login => limits.login,
            Class::Registration => limits.registration,
            Class::Message => limits.message,
            Class::Join => limits.join,
            Class::Media => limits.media,
            Class::Claim => limits.claim,
            Class::Other => limits.other,
            Class::Stranger => limits.stranger,
            Class::Federation => limits.federation,
        }
    }

    fn bucket(&self, key: (Class, Key), now_ms: i64) -> Arc<Mutex<Bucket>> {
        let fresh = || Arc::new(Mutex::new(Bucket::full(self.rate(key.0), now_ms)));
        let cache = match key.0 {
            Class::Login | Class::Registration => &self.guesses,
            _ => &self.buckets,
        };
        let found = cache.get_or_insert_with(&key, || Ok::<_, ()>(fresh()));
        found.unwrap_or_else(|()| fresh())
    }

    /// Makes sure that one more request of a class would pass, without counting one.
    ///
    /// # Errors
    /// As [`Limits::check`].
    pub fn require_left(&self, class: Class, key: impl Into<Key>) -> Result<(), MatrixError> {
        if !self.context.settings.rate_limits.enabled {
            return Ok(());
        }
        let (key, now_ms) = ((class, key.into()), self.context.now_ms());
        let mut would = *self.bucket(key, now_ms).lock();
        would.take(self.rate(class), now_ms, 1).map_err(MatrixError::limit_exceeded)
    }

    /// Counts one request of a class.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` with `retry_after_ms` when there were too many.
    pub fn check(&self, class: Class, key: impl Into<Key>) -> Result<(), MatrixError> {
        self.check_cost(class, key, 1)
    }

    /// Counts one request that costs as much as `cost` ordinary ones, but never more than may be asked at
    /// once.
    ///
    /// # Errors
    /// As [`Limits::check`].
    pub fn check_cost(
        &self,
        class: Class,
        key: impl Into<Key>,
        cost: u32,
    ) -> Result<(), MatrixError> {
        if !self.context.settings.rate_limits.enabled {
            return Ok(());
        }
        let cost = cost.min(self.rate(class).burst).max(1);
        let key = (class, key.into());
        self.take(key, cost)?;
        self.note_taken(key, cost);
        Ok(())
    }

    /// Takes tokens here.
    fn take(&self, key: (Class, Key), count: u32) -> Result<(), MatrixError> {
        let now_ms = self.context.now_ms();
        let taken = self.bucket(key, now_ms).lock().take(self.rate(key.0), now_ms, count);
        taken.map_err(MatrixError::limit_exceeded)
    }

    /// Has the other processes told that tokens were taken here.
    fn note_taken(&self, key: (Class, Key), count: u32) {
        if self.context.streams.is_shared() {
            *self.unsent.lock().entry(key).or_default() += count;
            if matches!(key.0, Class::Login | Class::Registration) {
                self.tell();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let rate = Rate { per_second: 2.0, burst: 3 };
        let mut bucket = Bucket::full(rate, 1_000);
        for _ in 0..3 {
            assert_eq!(bucket.take(rate, 1_000, 1), Ok(()));
        }
        assert_eq!(bucket.take(rate, 1_000, 1), Err(500));
        assert_eq!(bucket.take(rate, 1_400, 1), Err(100));
        assert_eq!(bucket.take(rate, 1_500, 1), Ok(()));
        assert_eq!(bucket.take(rate, 900, 1), Err(500), "a clock that goes back gives nothing");
        assert_eq!(bucket.take(rate, 1_000_000, 1), Ok(()));
        assert!((bucket.tokens - 2.0).abs() < 1e-9, "never more than the burst");
    }

    #[test]
    fn what_others_take_is_missing_here_and_grows_again() {
        let rate = Rate { per_second: 1.0, burst: 3 };
        let mut bucket = Bucket::full(rate, 0);
        bucket.taken_by_others(rate, 0, 2);
        assert_eq!(bucket.take(rate, 0, 1), Ok(()));
        assert_eq!(bucket.take(rate, 0, 1), Err(1_000));
        bucket.taken_by_others(rate, 0, 100);
        assert_eq!(bucket.take(rate, 0, 1), Err(4_000), "a debt of a burst at most");
        assert_eq!(bucket.take(rate, 4_000, 1), Ok(()));
    }

    #[test]
    fn a_rate_of_nothing_never_divides_by_it() {
        let rate = Rate { per_second: 0.0, burst: 0 };
        assert!(Bucket::full(rate, 0).take(rate, 10, 1).unwrap_err() > 1_000_000);
    }

    #[test]
    fn neighbours_in_one_network_count_as_one() {
        let key = |text: &str| Key::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }
}
