//! The bus between processes over Redis: plain publish and subscribe on one channel per deployment.
//! The only file that knows Redis, but for `redis_bus/scheme.rs`.
//!
//! Invariants:
//! 1. Nothing is kept in Redis: no key is read or written, so losing, restarting or flushing it
//!    loses hints only.
//! 2. The channel's name comes from a secret of the deployment's database, so that two deployments
//!    on one Redis never hear each other, whatever they are called.
//! 3. Whether the bus works is told by a message to ourselves every second, not by a connection
//!    that looks open.

mod scheme;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use colonnade_model::stream::StreamAdvance;
use futures_util::StreamExt as _;
use redis::{
    AsyncConnectionConfig, Client, ErrorKind, RedisError, ServerErrorKind,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use tokio::{
    sync::{broadcast, mpsc},
    time::Instant,
};

use crate::{
    bus::{BACKLOG_MAX, Bus},
    message,
};

/// The oldest Redis we run on.
const VERSION_MIN: u32 = 6;
/// Messages that may wait to be sent; more are dropped, and their readers find the gap.
const OUTBOX_MAX: usize = 4_096;
/// Messages sent together at most.
const TOGETHER_MAX: usize = 64;
/// How often we say something to ourselves.
const BEAT: Duration = Duration::from_secs(1);
/// After so long without hearing even ourselves, the connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long to wait before connecting again: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// What an ephemeral message begins with; an advance is JSON and cannot.
const EPHEMERAL: &[u8] = b"w";
/// What we say to ourselves.
const HEARTBEAT: &[u8] = b"beat";

/// Why Redis cannot be used; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The URL is none.
    #[error(
        "redis.url is not understood ({0}): write it like redis://user:password@host:6379/0, or \
         redis+unix:///run/redis.sock"
    )]
    Url(String),
    /// Redis is there and refuses us, or is too old.
    #[error("cannot use the Redis at {place}: {why}; {mend}")]
    Refused {
        /// Its address, without the password.
        place: String,
        /// What it said.
        why: String,
        /// What helps.
        mend: &'static str,
    },
}

/// The bus over Redis.
pub struct Redis {
    outbox: mpsc::Sender<Outgoing>,
    advances: broadcast::Sender<Arc<StreamAdvance>>,
    ephemeral: broadcast::Sender<Arc<[u8]>>,
    healthy: Arc<AtomicBool>,
}

impl Redis {
    /// Joins the bus of a deployment. When Redis cannot be reached the bus begins without it and
    /// goes on trying.
    ///
    /// # Errors
    /// [`BusError`] when waiting would not help: a wrong URL, password, database or version.
    pub async fn connect(url: &str, deployment: &str) -> Result<Self, BusError> {
        let client = Client::open(url).map_err(|error| BusError::Url(error.to_string()))?;
        let channel = format!("colonnade:{deployment}:streams");
        let way = Way { client, channel };
        let first = match way.open().await {
            Ok(line) => Some(line),
            Err(failed) => {
                if let Some(refused) = way.refusal(&failed, true).await {
                    return Err(refused);
                }
                let place = way.place();
                tracing::warn!(%place, error = %failed, "Redis is away; asking the database instead");
                None
            }
        };
        let (outbox, waiting) = mpsc::channel(OUTBOX_MAX);
        let advances = broadcast::Sender::new(BACKLOG_MAX);
        let ephemeral = broadcast::Sender::new(BACKLOG_MAX);
        let healthy = Arc::new(AtomicBool::new(first.is_some()));
        let line = Carrier {
            way,
            waiting,
            advances: advances.clone(),
            ephemeral: ephemeral.clone(),
            healthy: Arc::clone(&healthy),
        };
        tokio::spawn(line.run(first));
        Ok(Self { outbox, advances, ephemeral, healthy })
    }
}

impl Bus for Redis {
    fn publish(&self, advance: Arc<StreamAdvance>) {
        // Full, or the runtime is ending: readers find the gap.
        let _ = self.outbox.try_send(Outgoing::Advance(advance));
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.advances.subscribe()
    }

    fn send_ephemeral(&self, text: Arc<[u8]>) {
        // Full: it is lost, as ephemeral messages may be.
        let _ = self.outbox.try_send(Outgoing::Ephemeral(text));
    }

    fn ephemeral_messages(&self) -> Option<broadcast::Receiver<Arc<[u8]>>> {
        Some(self.ephemeral.subscribe())
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }
}

/// What waits to be sent.
enum Outgoing {
    Advance(Arc<StreamAdvance>),
    Ephemeral(Arc<[u8]>),
}

impl Outgoing {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Advance(advance) => message::encode(advance),
            Self::Ephemeral(text) => [EPHEMERAL, text].concat(),
        }
    }
}

/// How to reach Redis, and where we speak there.
struct Way {
    client: Client,
    channel: String,
}

/// An open line: one connection to speak, one to listen.
struct Line {
    speak: MultiplexedConnection,
    heard: PubSubStream,
    /// Keeps the subscription.
    _listen: PubSubSink,
}

/// Why a line did not open.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("it does not answer within {:?}", scheme::PATIENCE)]
    Silent,
    #[error("it is version {0}")]
    Old(String),
}

impl Failed {
    /// Tells whether nobody listens there.
    fn is_nobody(&self) -> bool {
        matches!(self, Self::Redis(error) if error.is_connection_refusal())
    }
}

impl Way {
    fn place(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    async fn open(&self) -> Result<Line, Failed> {
        let line = tokio::time::timeout(scheme::PATIENCE, self.try_open()).await;
        line.unwrap_or(Err(Failed::Silent))
    }

    async fn try_open(&self) -> Result<Line, Failed> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(scheme::PATIENCE))
            .set_response_timeout(Some(scheme::PATIENCE));
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut speak = connected?;
        // Who may not ask for the version has a Redis with access lists, which is new enough.
        let about: Result<String, _> =
            redis::cmd("INFO").arg("server").query_async(&mut speak).await;
        if let Some(version) = about.ok().as_deref().and_then(version)
            && version.split('.').next().and_then(|major| major.parse().ok()) < Some(VERSION_MIN)
        {
            return Err(Failed::Old(version.to_owned()));
        }
        let (mut listen, heard) = self.client.get_async_pubsub().await?.split();
        listen.subscribe(&self.channel).await?;
        self.say(&mut speak, &[HEARTBEAT.to_vec()]).await?;
        Ok(Line { speak, heard, _listen: listen })
    }

    async fn say(
        &self,
        speak: &mut MultiplexedConnection,
        messages: &[Vec<u8>],
    ) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        for message in messages {
            pipeline.cmd("PUBLISH").arg(&self.channel).arg(message).ignore();
        }
        pipeline.query_async(speak).await
    }

    /// Says why trying again would not help, if it would not. With `thorough`, asks also whether the server
    /// speaks at all as the URL says.
    async fn refusal(&self, failed: &Failed, thorough: bool) -> Option<BusError> {
        let mend = match failed {
            Failed::Old(_) => Some("6 is the oldest that works: upgrade it"),
            Failed::Redis(error) => mend(error),
            Failed::Silent => None,
        };
        let mend = match mend {
            None if thorough && !failed.is_nobody() => scheme::mend(&self.client).await,
            mend => mend,
        };
        let (place, why) = (self.place(), failed.to_string());
        mend.map(|mend| BusError::Refused { place, why, mend })
    }
}

/// Says what helps against an answer that will stay as it is.
fn mend(error: &RedisError) -> Option<&'static str> {
    Some(match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("WRONGPASS" | "NOAUTH")) => {
            "user or password in redis.url is missing or wrong: write it like \
             redis://user:password@host:6379/0, or redis://:password@host:6379/0"
        }
        (ErrorKind::Server(ServerErrorKind::NoPerm), _) => {
            "its access list forbids us to publish and subscribe: ACL SETUSER … \
             +@pubsub +@connection +info +select &colonnade:*"
        }
        (ErrorKind::Server(ServerErrorKind::ResponseError), _) => {
            "the number at the end of redis.url has to be a database of that Redis: 0 \
             always is"
        }
        _ if scheme::is_in_clear(error) => scheme::NO_TLS,
        _ if scheme::is_untrusted(error) => {
            "rediss:// needs a Redis with a certificate for the host in redis.url: \
             let this system know the authority that signed it, or name a file with it in \
             the environment variable SSL_CERT_FILE"
        }
        _ => return None,
    })
}

/// Finds the version in the answer to `INFO`.
fn version(about: &str) -> Option<&str> {
    about.lines().find_map(|line| line.strip_prefix("redis_version:")).map(str::trim)
}

/// Carries messages to Redis and back, and connects again when it has to.
struct Carrier {
    way: Way,
    waiting: mpsc::Receiver<Outgoing>,
    advances: broadcast::Sender<Arc<StreamAdvance>>,
    ephemeral: broadcast::Sender<Arc<[u8]>>,
    healthy: Arc<AtomicBool>,
}

impl Carrier {
    async fn run(mut self, first: Option<Line>) {
        let mut line = first;
        loop {
            let open = match line.take() {
                Some(open) => open,
                None => match self.reconnect().await {
                    Some(open) => open,
                    None => return,
                },
            };
            self.healthy.store(true, Ordering::Release);
            let why = self.carry(open).await;
            self.healthy.store(false, Ordering::Release);
            let Some(why) = why else { return };
            let place = self.way.place();
            tracing::warn!(%place, why, "lost Redis; asking the database instead");
        }
    }

    /// Carries until the line breaks, which it says why, or nobody speaks any more.
    async fn carry(&mut self, mut line: Line) -> Option<String> {
        let mut beat = tokio::time::interval(BEAT);
        let mut heard_at = Instant::now();
        loop {
            tokio::select! {
                heard = line.heard.next() => {
                    let Some(heard) = heard else { return Some("it closed the connection".into()) };
                    heard_at = Instant::now();
                    self.hear(heard.get_payload_bytes());
                }
                first = self.waiting.recv() => {
                    let mut messages = vec![first?.encode()];
                    while messages.len() < TOGETHER_MAX
                        && let Ok(next) = self.waiting.try_recv()
                    {
                        messages.push(next.encode());
                    }
                    if let Err(error) = self.way.say(&mut line.speak, &messages).await {
                        return Some(error.to_string());
                    }
                }
                _ = beat.tick() => {
                    if heard_at.elapsed() > SILENCE_MAX {
                        return Some("nothing came back for 3 s".into());
                    }
                    let said = self.way.say(&mut line.speak, &[HEARTBEAT.to_vec()]).await;
                    if let Err(error) = said {
                        return Some(error.to_string());
                    }
                }
            }
        }
    }

    fn hear(&self, bytes: &[u8]) {
        if bytes == HEARTBEAT {
            return;
        }
        if let Some(text) = bytes.strip_prefix(EPHEMERAL) {
            // An error only says that nobody listens.
            let _ = self.ephemeral.send(text.into());
            return;
        }
        match message::decode(bytes) {
            // An error only says that nobody listens.
            Some(advance) => drop(self.advances.send(Arc::new(advance))),
            None => tracing::debug!(bytes = bytes.len(), "a message on the bus is not ours"),
        }
    }

    /// Connects again, ever more slowly; what is said meanwhile is dropped. `None` once nobody
    /// speaks any more.
    async fn reconnect(&mut self) -> Option<Line> {
        let mut pause = BACK_OFF.0;
        let (mut reported, mut asked) = (String::new(), false);
        loop {
            let over = Instant::now() + pause;
            while tokio::select! {
                () = tokio::time::sleep_until(over) => false,
                dropped = self.waiting.recv() => { dropped?; true }
            } {}
            match self.way.open().await {
                Ok(line) => {
                    tracing::info!(place = %self.way.place(), "Redis is back");
                    return Some(line);
                }
                Err(error) => {
                    tracing::debug!(%error, "Redis is still away");
                    let refused = self.way.refusal(&error, !asked).await;
                    asked |= !error.is_nobody();
                    let says = refused.map(|refused| refused.to_string()).unwrap_or_default();
                    // Once, not at each attempt.
                    if !says.is_empty() && says != reported {
                        tracing::warn!("{says}");
                        reported = says;
                    }
                }
            }
            pause = (pause * 2).min(BACK_OFF.1);
        }
    }
}

#[cfg(test)]
mod tests;
