//! The way to another server: finding its address (well-known files, SRV records), TLS, signed requests, who is
//! not reached at the moment and when it is tried again. It imports nothing else of this crate.
//!
//! Invariants:
//! 1. Every connection is made by `connect.rs`, to an address that `addresses.rs` permits.
//! 2. Nothing is asked of a server that the operator does not speak with, `policy.rs` says.
//! 3. Whatever is read is bounded in bytes, and takes as long as the caller says at most.

mod addresses;
pub mod authorization;
mod backoff;
mod canonical;
mod connect;
mod discovery;
mod error;
mod fetch;
mod names;
mod policy;
mod response;
mod tls;
mod web;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use colonnade_model::ruma::{OwnedServerName, ServerName};
use colonnade_replication::ephemeral::Receivers;
use colonnade_rooms::{Context, Error};
use http::{HeaderValue, Method, Uri, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use quick_cache::sync::Cache;
use serde::Serialize;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, broadcast},
    time::{Instant, timeout_at},
};

use authorization::Signed;
use backoff::Backoff;
use connect::{Connector, Dialer};
use discovery::{Discovery, ServerAddress, WELL_KNOWN};
use fetch::{Fetcher, HTTPS, not_answered};

pub use addresses::AddressPolicy;
pub use canonical::canonical;
pub use discovery::read_well_known;
pub use error::TransportError;
pub use fetch::FetchBounds;
pub use names::{Srv, in_order};
pub use policy::Policy;
pub use response::{Response, ResponseBody};
pub use web::WebClient;

/// Servers whose connections are kept.
const PEERS_MAX: usize = 10_000;
/// Requests to one server at a time: further ones wait for their turn within their own time.
const REQUESTS_MAX: usize = 64;
/// Idle connections kept to one server.
const IDLE_MAX: usize = 4;
/// How long one is kept. Synapse closes its own after three minutes.
const IDLE_TIME: Duration = Duration::from_secs(90);
/// How long a request may take unless it says otherwise: what other servers wait.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How large an answer may be unless the request says otherwise, in bytes: a transaction's worth of events.
const RESPONSE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A request to another server.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path and query, percent-encoded.
    pub path_and_query: String,
    /// The JSON body.
    pub body: Option<Value>,
    /// How long all of it may take, until the last byte of the answer.
    pub timeout: Duration,
    /// How large the answer may be, in bytes.
    pub response_bytes_max: u64,
    /// What is done about a server that could not be reached a short while ago.
    pub backoff: BackoffRule,
}

/// What is done about a server that could not be reached a short while ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackoffRule {
    /// It is left alone, and the request fails at once.
    Kept,
    /// It is asked all the same: a person waits, or something just arrived from it.
    Ignored,
}

impl Request {
    /// Makes a GET.
    pub fn get(path_and_query: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path_and_query: path_and_query.into(),
            body: None,
            timeout: TIMEOUT,
            response_bytes_max: RESPONSE_BYTES_MAX,
            backoff: BackoffRule::Kept,
        }
    }

    /// Makes a PUT of JSON.
    ///
    /// # Errors
    /// [`TransportError::Malformed`] when the body is no JSON.
    pub fn put<T: Serialize>(
        path_and_query: impl Into<String>,
        body: &T,
    ) -> Result<Self, TransportError> {
        Self::with_body(Method::PUT, path_and_query, body)
    }

    /// Makes a POST of JSON.
    ///
    /// # Errors
    /// [`TransportError::Malformed`] when the body is no JSON.
    pub fn post<T: Serialize>(
        path_and_query: impl Into<String>,
        body: &T,
    ) -> Result<Self, TransportError> {
        Self::with_body(Method::POST, path_and_query, body)
    }

    fn with_body<T: Serialize>(
        method: Method,
        path_and_query: impl Into<String>,
        body: &T,
    ) -> Result<Self, TransportError> {
        let body = serde_json::to_value(body);
        let body = body.map_err(|error| TransportError::Malformed(error.to_string()))?;
        Ok(Self { method, body: Some(body), ..Self::get(path_and_query) })
    }

    /// Sets how long all of it may take.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how large the answer may be, in bytes.
    #[must_use]
    pub fn taking(mut self, response_bytes_max: u64) -> Self {
        self.response_bytes_max = response_bytes_max;
        self
    }

    /// Asks although the server could not be reached a short while ago.
    #[must_use]
    pub fn ignoring_backoff(mut self) -> Self {
        self.backoff = BackoffRule::Ignored;
        self
    }
}

/// One server, as it is reached now.
struct Peer {
    route: ServerAddress,
    until_ms: i64,
    client: Client<Connector, Full<Bytes>>,
    turns: Arc<Semaphore>,
}

/// How files of the web are fetched; otherwise in tests.
struct Web {
    port: u16,
    /// What is taken of well-known files.
    bounds: FetchBounds,
}

/// The way to other servers. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Shared>,
}

struct Shared {
    context: Arc<Context>,
    policy: Policy,
    user_agent: HeaderValue,
    dialer: Arc<Dialer>,
    fetcher: Arc<Fetcher>,
    discovery: Discovery,
    peers: Cache<OwnedServerName, Arc<Peer>>,
    backoff: Arc<Backoff>,
}

impl Transport {
    /// Makes the way to other servers by the settings.
    ///
    /// # Errors
    /// When a file of certificates cannot be used.
    pub fn start(context: &Arc<Context>) -> Result<Self, Error> {
        let settings = &context.settings;
        let tls = tls::client_config(&settings.federation.trusted_ca_files)?;
        let addresses = AddressPolicy::new(&settings.outgoing.allowed_ranges);
        let names = Arc::new(names::System::new());
        let dialer = Arc::new(Dialer { names, addresses, tls });
        Ok(Self::over(context, dialer, Web { port: HTTPS, bounds: WELL_KNOWN }))
    }

    fn over(context: &Arc<Context>, dialer: Arc<Dialer>, web: Web) -> Self {
        let user_agent = concat!("Colonnade/", env!("CARGO_PKG_VERSION"));
        let user_agent = HeaderValue::from_static(user_agent);
        let fetcher =
            Fetcher { dialer: Arc::clone(&dialer), user_agent: user_agent.clone(), port: web.port };
        let fetcher = Arc::new(fetcher);
        let overrides = context.settings.federation.overrides.clone();
        let clock = Arc::clone(&context.clock);
        let inner = Shared {
            policy: Policy::new(&context.settings.federation),
            discovery: Discovery::new(overrides, Arc::clone(&fetcher), web.bounds, clock),
            backoff: Backoff::new(Arc::clone(context)),
            peers: Cache::new(PEERS_MAX),
            context: Arc::clone(context),
            user_agent,
            dialer,
            fetcher,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the way to services of the web, with connections of its own.
    pub fn web(&self) -> WebClient {
        let Shared { dialer, user_agent, fetcher, .. } = &*self.inner;
        WebClient::new(Arc::clone(dialer), user_agent.clone(), fetcher.port)
    }

    /// Says with whom this server speaks.
    pub fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    /// Takes in what other processes say of servers that are reached again.
    #[must_use]
    pub fn listen(&self, receivers: Receivers) -> Receivers {
        self.inner.backoff.listen(receivers)
    }

    /// Hears of servers that were not reached and are again: what waits for them can go.
    pub fn returns(&self) -> broadcast::Receiver<OwnedServerName> {
        self.inner.backoff.returns()
    }

    /// Notes that something arrived from a server, with a right signature.
    pub async fn heard_from(&self, server: &ServerName) {
        self.inner.backoff.reached(server).await;
    }

    /// Returns until when a server that is not reached is left alone, in milliseconds since the Unix epoch.
    pub async fn left_alone_until_ms(&self, server: &ServerName) -> Option<i64> {
        self.inner.backoff.until_ms(server).await
    }

    /// Sends a signed request and returns the answer, if it is one of success.
    ///
    /// # Errors
    /// [`TransportError`] whatever keeps it from that.
    pub async fn send(
        &self,
        destination: &ServerName,
        request: Request,
    ) -> Result<Response, TransportError> {
        let deadline = Instant::now() + request.timeout;
        self.require_permitted(destination)?;
        if request.backoff == BackoffRule::Kept
            && let Some(until_ms) = self.inner.backoff.until_ms(destination).await
        {
            let why = "it could not be reached a short while ago".to_owned();
            return Err(TransportError::NotReached { why, until_ms: Some(until_ms) });
        }
        let asked = timeout_at(deadline, self.ask(destination, &request, deadline)).await;
        let asked = asked.unwrap_or(Err(TransportError::TimedOut));
        match asked {
            Ok(response) => {
                self.inner.backoff.reached(destination).await;
                Ok(response)
            }
            Err(error) if error.is_absence() => {
                let until_ms = self.inner.backoff.failed(destination).await;
                tracing::debug!(%destination, %error, until_ms, "a server is not reached");
                Err(match error {
                    TransportError::NotReached { why, .. } => {
                        TransportError::NotReached { why, until_ms }
                    }
                    other => other,
                })
            }
            Err(error) => {
                if matches!(error, TransportError::Status { .. }) {
                    self.inner.backoff.reached(destination).await;
                }
                Err(error)
            }
        }
    }

    /// Fetches a file that another server's word leads to, by an address of https.
    ///
    /// # Errors
    /// As [`Transport::send`].
    pub async fn fetch(
        &self,
        address: Uri,
        bounds: FetchBounds,
    ) -> Result<Response, TransportError> {
        if !self.inner.policy.is_enabled() {
            return Err(TransportError::Refused("this server does not federate".to_owned()));
        }
        self.inner.fetcher.get(address, bounds).await
    }

    fn require_permitted(&self, destination: &ServerName) -> Result<(), TransportError> {
        if *destination == *self.inner.context.server_name {
            return Err(TransportError::Refused(format!("{destination} is this server")));
        }
        let permitted = self.inner.policy.require(destination);
        permitted.map_err(|refusal| TransportError::Refused(refusal.message))
    }

    async fn ask(
        &self,
        destination: &ServerName,
        request: &Request,
        deadline: Instant,
    ) -> Result<Response, TransportError> {
        let peer = self.peer(destination).await?;
        let _turn = peer.turns.acquire().await.map_err(|_| TransportError::TimedOut)?;
        let request_bytes_max = request.response_bytes_max;
        let answer = peer.client.request(self.signed(destination, &peer, request)?).await;
        let answer = answer.map_err(|error| not_answered(&error))?;
        let response = Response::new(answer, request_bytes_max, deadline);
        match response.status.is_success() {
            true => Ok(response),
            false => Err(response.into_error().await),
        }
    }

    /// Returns a server as it is reached now, with the connections there are.
    async fn peer(&self, destination: &ServerName) -> Result<Arc<Peer>, TransportError> {
        let Shared { context, peers, discovery, dialer, .. } = &*self.inner;
        let before = peers.get(destination);
        if let Some(peer) = &before
            && context.now_ms() < peer.until_ms
        {
            return Ok(Arc::clone(peer));
        }
        let (route, until_ms) = discovery.route(destination).await?;
        let (client, turns) = match before.filter(|peer| peer.route == route) {
            Some(peer) => (peer.client.clone(), Arc::clone(&peer.turns)),
            None => {
                let connector = Connector {
                    dialer: Arc::clone(dialer),
                    target: route.target.clone(),
                    name: route.name.clone(),
                };
                let client = Client::builder(TokioExecutor::new())
                    .pool_timer(TokioTimer::new())
                    .pool_idle_timeout(IDLE_TIME)
                    .pool_max_idle_per_host(IDLE_MAX)
                    .build(connector);
                (client, Arc::new(Semaphore::new(REQUESTS_MAX)))
            }
        };
        let peer = Arc::new(Peer { route, until_ms, client, turns });
        peers.insert(destination.to_owned(), Arc::clone(&peer));
        Ok(peer)
    }

    fn signed(
        &self,
        destination: &ServerName,
        peer: &Peer,
        request: &Request,
    ) -> Result<http::Request<Full<Bytes>>, TransportError> {
        let malformed =
            |error: &dyn std::fmt::Display| TransportError::Malformed(error.to_string());
        let context = &self.inner.context;
        let Request { method, path_and_query, body, .. } = request;
        let content = body.as_ref().map(Value::to_string);
        let signed = Signed {
            method: method.as_str(),
            uri: path_and_query,
            origin: &context.server_name,
            destination,
            content: content.as_deref(),
        };
        let authorization = signed.sign(&context.signing_key.current());
        let authorization = authorization.map_err(|error| malformed(&error))?.to_header();
        let address = format!("https://{}{path_and_query}", peer.route.host);
        let mut builder = http::Request::builder()
            .method(method)
            .uri(address)
            .header(header::HOST, &peer.route.host)
            .header(header::USER_AGENT, &self.inner.user_agent)
            .header(header::AUTHORIZATION, authorization);
        if content.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let bytes = content.map(Bytes::from).unwrap_or_default();
        builder.body(Full::new(bytes)).map_err(|error| malformed(&error))
    }
}

#[cfg(test)]
mod tests;
