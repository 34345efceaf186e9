//! Files of the web that another server's word leads to: its well-known file, media that it keeps elsewhere.
//! HTTPS only, bounded in time, bytes and redirects, and each of these goes to permitted addresses only.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::legacy;
use rustls::pki_types::ServerName as TlsName;
use tokio::time::{Instant, timeout_at};

use super::{
    connect::{ConnectError, Dialer, Target},
    error::TransportError,
    response::Response,
};

/// Redirects that are followed: one to https, one to the right host, one for a content network, and twice
/// as many.
const REDIRECTS_MAX: usize = 6;
/// The port of HTTPS.
pub(super) const HTTPS: u16 = 443;

/// How much is taken of a file.
#[derive(Debug, Clone, Copy)]
pub struct FetchBounds {
    /// How long all of it may take, redirects included.
    pub within: Duration,
    /// How large it may be, in bytes.
    pub bytes_max: u64,
}

/// Fetches files.
pub(super) struct Fetcher {
    pub(super) dialer: Arc<Dialer>,
    pub(super) user_agent: HeaderValue,
    /// The port of addresses without one; another in tests.
    pub(super) port: u16,
}

impl Fetcher {
    /// Fetches a file. The address is one of https.
    pub(super) async fn get(
        &self,
        address: Uri,
        bounds: FetchBounds,
    ) -> Result<Response, TransportError> {
        let deadline = Instant::now() + bounds.within;
        let mut address = address;
        for _ in 0..=REDIRECTS_MAX {
            let asked = timeout_at(deadline, self.ask(&address)).await;
            let answer = asked.map_err(|_| TransportError::TimedOut)??;
            let (status, location) = (answer.status(), answer.headers().get(header::LOCATION));
            if status.is_redirection()
                && let Some(location) = location
            {
                address = resolve(&address, location)
                    .ok_or_else(|| TransportError::Malformed("it redirects to nowhere".into()))?;
                continue;
            }
            let response = Response::new(answer, bounds.bytes_max, deadline);
            return match status.is_success() {
                true => Ok(response),
                false => Err(response.into_error().await),
            };
        }
        Err(TransportError::Malformed("it redirects too often".to_owned()))
    }

    async fn ask(
        &self,
        address: &Uri,
    ) -> Result<http::Response<hyper::body::Incoming>, TransportError> {
        let not_reached = |why: String| TransportError::NotReached { why, until_ms: None };
        let refused = |why: &str| TransportError::Refused(why.to_owned());
        if address.scheme() != Some(&Scheme::HTTPS) {
            return Err(refused("only https is followed"));
        }
        let authority = address.authority().ok_or_else(|| refused("there is no host"))?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(self.port);
        let target = match host.parse::<IpAddr>() {
            Ok(ip) => Target::Address((ip, port).into()),
            Err(_) => Target::Host(host.to_owned(), port),
        };
        let name = TlsName::try_from(host.to_owned());
        let name = name.map_err(|_| refused("there is no such host"))?;
        let stream =
            self.dialer.connect(&target, Some(name)).await.map_err(TransportError::from)?;
        let handshake = http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| not_reached(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to fetch a file ended");
            }
        });
        let path = address.path_and_query().map_or("/", |path| path.as_str());
        // Without a name and password that may stand before the host.
        let after = authority.as_str().rsplit('@').next().unwrap_or_default();
        let request = Request::get(path)
            .header(header::HOST, after)
            .header(header::USER_AGENT, &self.user_agent)
            .header(header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|error| TransportError::Malformed(error.to_string()))?;
        let answer = sender.send_request(request).await;
        answer.map_err(|error| not_reached(error.to_string()))
    }
}

impl From<ConnectError> for TransportError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(_) => Self::Refused(error.to_string()),
            ConnectError::Failed(why) => Self::NotReached { why, until_ms: None },
        }
    }
}

/// Says why there is no answer.
pub(super) fn not_answered(error: &legacy::Error) -> TransportError {
    let mut chain = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(failure) = cause.downcast_ref::<ConnectError>() {
            return failure.clone().into();
        }
        chain = format!("{chain}: {cause}");
        source = cause.source();
    }
    TransportError::NotReached { why: chain, until_ms: None }
}

/// Returns where a redirect leads: to an address, or to another path of the same host.
fn resolve(from: &Uri, location: &HeaderValue) -> Option<Uri> {
    let location: Uri = location.to_str().ok()?.parse().ok()?;
    if location.scheme().is_some() {
        return Some(location);
    }
    let mut parts = from.clone().into_parts();
    if location.authority().is_some() {
        parts.authority = location.authority().cloned();
    }
    parts.path_and_query = Some(location.path_and_query()?.clone());
    Uri::from_parts(parts).ok()
}
