//! Requests to services that somebody named by an address of the web: push gateways. They are no Matrix servers: nothing
//! is signed, and the federation's lists say nothing of them; which addresses are connected to holds all the same.
//! Connections are kept and shared by all who ask the same host.

use std::{
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use http_body_util::Full;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::ServerName as TlsName;
use tokio::time::{Instant, timeout_at};

use super::{
    connect::{ConnectError, Dialer, OpenConnection, Target},
    error::TransportError,
    fetch::{FetchBounds, not_answered},
    response::Response,
};

/// Idle connections kept to one host: many users share a gateway.
const IDLE_MAX: usize = 16;
/// How long one is kept: nginx, which stands before most, closes its own after 75 seconds.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// The port of HTTP.
const HTTP: u16 = 80;

/// Asks services of the web. Cheap to clone.
#[derive(Clone)]
pub struct WebClient {
    client: Client<WebConnector, Full<Bytes>>,
    user_agent: HeaderValue,
}

impl WebClient {
    /// Begins without connections. `port` is that of addresses of https that name none.
    pub(super) fn new(dialer: Arc<Dialer>, user_agent: HeaderValue, port: u16) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_MAX)
            .build(WebConnector { dialer, port });
        Self { client, user_agent }
    }

    /// Posts JSON, and returns the answer if it is one of success. Redirects are not followed: a gateway has no
    /// reason to send them.
    ///
    /// # Errors
    /// [`TransportError`] whatever keeps it from that.
    pub async fn post_json(
        &self,
        address: &str,
        body: Vec<u8>,
        bounds: FetchBounds,
    ) -> Result<Response, TransportError> {
        let deadline = Instant::now() + bounds.within;
        let request = Request::post(address)
            .header(header::USER_AGENT, &self.user_agent)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| TransportError::Malformed(error.to_string()))?;
        let answered = timeout_at(deadline, self.client.request(request)).await;
        let answer = answered.map_err(|_| TransportError::TimedOut)?;
        let answer = answer.map_err(|error| not_answered(&error))?;
        let response = Response::new(answer, bounds.bytes_max, deadline);
        match response.status.is_success() {
            true => Ok(response),
            false => Err(response.into_error().await),
        }
    }
}

/// Opens connections to whatever host an address names.
#[derive(Clone)]
struct WebConnector {
    dialer: Arc<Dialer>,
    port: u16,
}

impl WebConnector {
    async fn open(&self, address: &Uri) -> Result<OpenConnection, ConnectError> {
        let failed = |why: &str| ConnectError::Failed(why.to_owned());
        let is_plain = address.scheme() == Some(&Scheme::HTTP);
        let host = address.host().ok_or_else(|| failed("there is no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let usual = if is_plain { HTTP } else { self.port };
        let port = address.port_u16().unwrap_or(usual);
        let target = match host.parse::<IpAddr>() {
            Ok(ip) => Target::Address((ip, port).into()),
            Err(_) => Target::Host(host.to_owned(), port),
        };
        if is_plain {
            return self.dialer.connect(&target, None).await;
        }
        let name = TlsName::try_from(host.to_owned());
        let name = name.map_err(|_| failed("there is no such host"))?;
        self.dialer.connect(&target, Some(name)).await
    }
}

impl tower_service::Service<Uri> for WebConnector {
    type Response = OpenConnection;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<OpenConnection, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, address: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.open(&address).await })
    }
}
