//! What happens to every request before and after its endpoint: a request id, the client's address,
//! deadlines, one line in the log, the metrics, and an answer even when a handler panics. Never logs
//! a token or a query string.

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use colonnade_api::{
    ByteBody, ClientAddress, OverTls, Reply, Router, reply, request_target, router::EndpointName,
};
use colonnade_model::{MatrixError, Random};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::time::Sleep;
use tracing::Instrument as _;

use crate::{
    listener::unread,
    rpc::internal::Internal,
    telemetry::{metrics::Metrics, spans},
};

/// The longest pause in a request body.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest time a whole request body may take: the largest upload at 100 kB/s.
const BODY_TIME_MAX: Duration = Duration::from_secs(600);
/// How long an endpoint may think. Beyond it something is stuck, and the client will ask again.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(120);
/// How long a body that another worker gets is thrown away.
const PASS_OVER_MAX: Duration = Duration::from_secs(1);
/// How much of it is: gateways keep no larger request to send it again.
const PASS_OVER_BYTES_MAX: usize = 64 * 1024;
/// The longest request id taken over from outside.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// Characters of a request id of our own: unlikely to repeat within any log.
const REQUEST_ID_LENGTH: usize = 12;
/// Entries of X-Forwarded-For that are looked at, from the end.
const HOPS_MAX: usize = 20;

/// Answers requests.
pub struct Front {
    router: Arc<Router>,
    metrics: Arc<Metrics>,
    random: Arc<dyn Random>,
    internal: Arc<Internal>,
    trusted_proxies: Arc<[IpNet]>,
}

impl Front {
    /// Puts a front before a router, and before what processes ask each other.
    pub(crate) fn new(
        router: Arc<Router>,
        metrics: Arc<Metrics>,
        random: Arc<dyn Random>,
        internal: Arc<Internal>,
        trusted_proxies: Arc<[IpNet]>,
    ) -> Self {
        Self { router, metrics, random, internal, trusted_proxies }
    }

    /// Answers a request that came from `peer` (`None`: over a unix socket).
    pub async fn answer(&self, mut request: Request<Incoming>, peer: Option<IpAddr>) -> Reply {
        let begun = Instant::now();
        let id = self.request_id(request.headers());
        let span = tracing::info_span!("request", id = %id, user = tracing::field::Empty);
        spans::continue_trace(&span, request.headers());
        if let Some(address) = client_address(request.headers(), peer, &self.trusted_proxies) {
            request.extensions_mut().insert(ClientAddress(address));
        }
        if is_over_tls(request.headers(), peer, &self.trusted_proxies) {
            request.extensions_mut().insert(OverTls);
        }
        let method = request.method().clone();
        let patience = Patience::of(request.uri().path());
        let _counted = (patience == Patience::LongPoll).then(|| self.metrics.long_poll());
        let (request, rest) = unread::watch(request.map(timed));
        let unclear = request_target::check(request.uri(), request.headers()).err();
        if unclear.is_none() && Internal::takes(&request) {
            let mut reply = self.internal.answer(request).instrument(span).await;
            rest.mark(&mut reply).await;
            return reply;
        }
        let caught_up = self.internal.catch_up(&request);
        let refusal = self.router.turned_away(&request);
        let elsewhere = match unclear {
            Some(error) => Some(Router::refuse(&error)),
            None => self.internal.misdirected(&request, &self.router),
        };
        let answer = async {
            if let Some(answer) = elsewhere {
                pass_over(request.into_body()).await;
                return answer;
            }
            if let Some(refusal) = refusal {
                return refusal;
            }
            caught_up.await;
            self.router.answer(request).await
        };
        // Boxed: the two arms below would each make room for it.
        let answer = Box::pin(AssertUnwindSafe(answer).catch_unwind());
        let answered = async {
            match patience {
                Patience::Usual => tokio::time::timeout(ANSWER_TIME_MAX, answer).await,
                Patience::LongPoll | Patience::Stream => Ok(answer.await),
            }
        };
        let mut reply = match answered.instrument(span.clone()).await {
            Ok(Ok(reply)) => reply,
            // The panic hook has written the line.
            Ok(Err(_panic)) => reply::matrix_error(&MatrixError::internal(
                "something broke on this server; its log says what",
            )),
            Err(_late) => reply::matrix_error(&MatrixError::unavailable(
                "this took too long; try again later",
            )),
        };
        rest.mark(&mut reply).await;
        let took = begun.elapsed();
        let endpoint = reply.extensions().get::<EndpointName>().map_or("unknown", |name| name.0);
        let status = reply.status().as_u16();
        self.metrics.request(&method, endpoint, status, took);
        let bytes = reply.body().size_hint().exact();
        let ms = took.as_secs_f64() * 1e3;
        span.in_scope(|| tracing::info!(%method, endpoint, status, ms, bytes, "answered"));
        if let Ok(id) = HeaderValue::from_str(&id) {
            reply.headers_mut().insert("x-request-id", id);
        }
        reply
    }

    /// Takes over the id the gateway gave, or makes one.
    fn request_id(&self, headers: &HeaderMap) -> String {
        let given = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        match given.filter(|id| is_request_id(id)) {
            Some(id) => id.to_owned(),
            None => self.random.alphanumeric(REQUEST_ID_LENGTH),
        }
    }
}

/// Throws a small body away, so that the connection ends in order or carries the next request. A gateway
/// sends such a body again: larger ones are not misdirected.
async fn pass_over(mut body: ByteBody) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > PASS_OVER_BYTES_MAX {
                return;
            }
        }
    };
    let _whatever = tokio::time::timeout(PASS_OVER_MAX, read).await;
}

/// Says whether a request id can be written into logs as it is.
fn is_request_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.bytes().all(plain)
}

/// How long an answer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    Usual,
    /// Waits for news as long as the client asked.
    LongPoll,
    /// Carries a body as long as the body takes.
    Stream,
}

impl Patience {
    fn of(path: &str) -> Self {
        let Some(client) = path.strip_prefix("/_matrix/client/") else {
            return if path.starts_with("/_matrix/media/") { Self::Stream } else { Self::Usual };
        };
        let rest = client.split_once('/').map_or("", |(_, rest)| rest);
        match rest {
            "sync" | "events" | "initialSync" => Self::LongPoll,
            _ if rest.ends_with("simplified_msc3575/sync") => Self::LongPoll,
            _ if rest.starts_with("media/") => Self::Stream,
            _ => Self::Usual,
        }
    }
}

/// Finds the client's address. Forwarding headers count only from this machine and from `trusted`
/// ones: the gateway there has checked them, and added the address it saw itself at the end.
fn client_address(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &[IpNet]) -> Option<IpAddr> {
    if peer.is_some_and(|peer| !is_ours(&peer, trusted)) {
        return peer;
    }
    let chain = headers.get("x-forwarded-for").and_then(|chain| chain.to_str().ok());
    let hops = chain.unwrap_or_default().rsplit(',').take(HOPS_MAX);
    let hops: Vec<IpAddr> = hops.map_while(|hop| hop.trim().parse().ok()).collect();
    let outside = hops.iter().find(|hop| !is_ours(hop, trusted));
    outside.or(hops.last()).copied().or(peer).map(|address| address.to_canonical())
}

/// Tells whether the client spoke TLS to whoever passed its request on; others than [`client_address`]
/// believes are not asked.
fn is_over_tls(headers: &HeaderMap, peer: Option<IpAddr>, trusted: &[IpNet]) -> bool {
    let scheme = headers.get("x-forwarded-proto").map(HeaderValue::as_bytes);
    peer.is_none_or(|peer| is_ours(&peer, trusted))
        && scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"https"))
}

/// Tells whether an address is this machine's or a trusted one's.
fn is_ours(address: &IpAddr, trusted: &[IpNet]) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || trusted.iter().any(|range| range.contains(&address))
}

/// Puts the deadlines around a body, if there is one.
fn timed(body: Incoming) -> ByteBody {
    if body.is_end_stream() {
        return body.map_err(std::io::Error::other).boxed_unsync();
    }
    TimedBody::new(body).boxed_unsync()
}

/// A request body that has to keep coming.
struct TimedBody {
    body: Incoming,
    pause: Pin<Box<Sleep>>,
    begun: tokio::time::Instant,
}

impl TimedBody {
    fn new(body: Incoming) -> Self {
        let begun = tokio::time::Instant::now();
        Self { body, pause: Box::pin(tokio::time::sleep(BODY_PAUSE_MAX)), begun }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            let deadline = tokio::time::Instant::now() + BODY_PAUSE_MAX;
            this.pause.as_mut().reset(deadline.min(this.begun + BODY_TIME_MAX));
            return Poll::Ready(frame.map(|frame| frame.map_err(std::io::Error::other)));
        }
        match this.pause.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(chain: &str, peer: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if !chain.is_empty() {
            headers.insert("x-forwarded-for", chain.parse().unwrap());
        }
        let peer = peer.map(|peer| peer.parse().unwrap());
        let trusted = ["10.0.0.0/24".parse().unwrap()];
        client_address(&headers, peer, &trusted).map(|address| address.to_string())
    }

    #[test]
    fn forwarding_headers_count_only_from_this_machine_and_trusted_ones() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(address("198.51.100.7", Some("203.0.113.9")), some("203.0.113.9"));
        assert_eq!(address("198.51.100.7", Some("127.0.0.1")), some("198.51.100.7"));
        assert_eq!(address("198.51.100.7", None), some("198.51.100.7"));
        assert_eq!(address("198.51.100.7", Some("10.0.0.9")), some("198.51.100.7"));
        assert_eq!(address("198.51.100.7", Some("::ffff:10.0.0.9")), some("198.51.100.7"));
        assert_eq!(address("198.51.100.7", Some("10.0.1.9")), some("10.0.1.9"));
        assert_eq!(address("1.1.1.1, 198.51.100.7, 10.0.0.9", None), some("198.51.100.7"));
        // Behind another proxy on this machine; what the client itself claims stands further left.
        assert_eq!(address("1.1.1.1, 198.51.100.7, 127.0.0.1", None), some("198.51.100.7"));
        assert_eq!(address("nonsense", None), None);
        assert_eq!(address("", Some("::ffff:127.0.0.1")), some("127.0.0.1"));
    }

    #[test]
    fn the_scheme_is_believed_where_the_address_is() {
        let is_over_tls = |scheme: &'static str, peer: Option<&str>| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-forwarded-proto"),
                HeaderValue::from_static(scheme),
            )]);
            let peer = peer.map(|peer| peer.parse().unwrap());
            is_over_tls(&headers, peer, &["10.0.0.0/24".parse().unwrap()])
        };
        for peer in [None, Some("127.0.0.1"), Some("10.0.0.9")] {
            assert!(is_over_tls("https", peer), "{peer:?}");
            assert!(!is_over_tls("http", peer), "{peer:?}");
        }
        assert!(!is_over_tls("https", Some("203.0.113.9")));
    }

    #[test]
    fn request_ids_from_outside_are_plain() {
        assert!(is_request_id("abc-1_2.3"));
        for id in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert!(!is_request_id(id), "{id:?}");
        }
    }

    #[test]
    fn long_polls_are_known_by_their_path() {
        for (path, patience) in [
            ("/_matrix/client/v3/sync", Patience::LongPoll),
            ("/_matrix/client/v3/rooms/!a:b/send/sync/sync", Patience::Usual),
            ("/_matrix/client/v1/media/download/a/b", Patience::Stream),
            ("/_matrix/media/v3/upload", Patience::Stream),
            ("/_matrix/client/versions", Patience::Usual),
        ] {
            assert_eq!(Patience::of(path), patience, "{path}");
        }
    }
}
