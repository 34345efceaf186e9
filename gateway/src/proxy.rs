//! Pingora's phases, in the order a request meets them, and nothing else: every decision is made
//! in a module that knows no Pingora (table, sticky, pools, forwarded, reply).

mod door;
mod framing;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

pub use door::Door;

use crate::config::Address;
use crate::connection::wire_of;
use crate::forwarded::{self, Client};
use crate::live::Live;
use crate::metrics::{Attempt, Metrics};
use crate::pools::{InFlight, Pool};
use crate::reply::{self, Reply};
use crate::routes::{Method, Retry, Route, Target};
use crate::sticky::{self, Clues};
use crate::table::{Asked, Found, split_target};

/// How many workers a request may meet: a pool that refuses three connections is down.
pub const ATTEMPTS_MAX: usize = 3;

/// How long an idle connection to a worker is kept: shorter than workers keep theirs, so that a
/// request does not meet one that is just being closed.
const WORKER_IDLE: Duration = Duration::from_secs(50);

/// How long the rest of a refused body is read, so that the client sees why.
const REFUSED_DRAIN: Duration = Duration::from_secs(2);

/// The gateway as Pingora's phases see it.
pub struct Gateway {
    /// What is in force now.
    pub live: Arc<ArcSwap<Live>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Makes ids for requests that bring none.
    pub request_ids: RequestIds,
}

/// Makes request ids: unique in this process, told apart between processes by the seed.
pub struct RequestIds {
    seed: u64,
    next: std::sync::atomic::AtomicU64,
}

impl RequestIds {
    /// Begins a series of ids.
    pub fn new(seed: u64) -> Self {
        Self { seed, next: std::sync::atomic::AtomicU64::new(0) }
    }

    fn next(&self) -> String {
        let count = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("{:016x}-{count:x}", self.seed)
    }
}

/// What is known about one request.
pub struct Ctx {
    began: Instant,
    live: Option<Arc<Live>>,
    rule: Option<usize>,
    pool: Option<Arc<Pool>>,
    key: Option<Vec<u8>>,
    client: Option<Client>,
    request_id: String,
    tried: Vec<usize>,
    retried: bool,
    in_flight: Option<InFlight>,
    body_bytes: u64,
    body_bytes_max: u64,
    refused: Option<Reply>,
}

impl Ctx {
    fn route(&self) -> Option<&Route> {
        self.live.as_ref()?.table.routes().get(self.rule?)
    }

    /// Ends the attempt under way, counting how it went.
    fn end_attempt(&mut self, metrics: &Metrics, outcome: Attempt) {
        let Some(attempt) = self.in_flight.take() else { return };
        let Some(pool) = &self.pool else { return };
        metrics.attempt(&pool.name, &attempt.member().name, outcome);
        match outcome {
            Attempt::Answered => attempt.served(),
            _ => attempt.failed(),
        }
    }
}

/// How an attempt failed, read from Pingora's error.
fn outcome_of(error: &Error) -> Attempt {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Attempt::TooSlow,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => Attempt::NoConnection,
        _ => Attempt::Broken,
    }
}

impl Gateway {
    /// Answers the request here.
    async fn answer(&self, session: &mut Session, ctx: &Ctx, reply: Reply) -> Result<()> {
        let cors = ctx.live.as_ref().is_none_or(|live| live.config.cors);
        let body = reply.body();
        let mut header = ResponseHeader::build(reply.status, Some(8))?;
        for (name, value) in reply.headers(body.len(), cors) {
            header.insert_header(name, value)?;
        }
        if !ctx.request_id.is_empty() {
            header.insert_header("x-request-id", ctx.request_id.as_str())?;
        }
        let bodiless = session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(header), bodiless).await?;
        if !bodiless {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }

    /// Answers a preflight: any path, so that a browser learns of a 404 instead of a CORS failure.
    async fn answer_preflight(&self, session: &mut Session, ctx: &Ctx) -> Result<()> {
        let mut header = ResponseHeader::build(204, Some(8))?;
        for (name, value) in reply::CORS {
            header.insert_header(name, value)?;
        }
        header.insert_header("access-control-max-age", reply::PREFLIGHT_MAX_AGE_S)?;
        header.insert_header("x-request-id", ctx.request_id.as_str())?;
        session.write_response_header(Box::new(header), true).await
    }

    /// Reads who asks, before anything is decided.
    fn identify(&self, session: &Session, ctx: &mut Ctx, live: &Live) {
        let wire = wire_of(session.digest());
        let peer = wire.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |wire| wire.peer);
        let tls = wire.is_some_and(|wire| wire.tls);
        let header = |name: &str| {
            let value = session.req_header().headers.get(name)?;
            value.to_str().ok()
        };
        // Several header lines are one list (RFC 9110 §5.3).
        let told: Vec<&str> = session
            .req_header()
            .headers
            .get_all("x-forwarded-for")
            .into_iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        let told = (!told.is_empty()).then(|| told.join(","));
        let proto = header("x-forwarded-proto");
        ctx.client = Some(forwarded::client(&live.config, peer, tls, told.as_deref(), proto));
        ctx.request_id = match header("x-request-id").filter(|id| forwarded::is_request_id(id)) {
            Some(id) => id.to_owned(),
            None => self.request_ids.next(),
        };
    }

    /// Finds rule, pool and key; or the reply to give instead.
    fn route(&self, session: &Session, ctx: &mut Ctx, live: &Arc<Live>) -> Result<(), Reply> {
        let head = session.req_header();
        let target = framing::target(head).ok_or(reply::MALFORMED)?;
        let (path, query) = split_target(&target);
        let header = |name: &str| head.headers.get(name).map(|value| value.as_bytes());
        let method = Method::of(head.method.as_str());
        let asked = Asked { method, path, query, header: &header };
        let route = match live.table.find(&asked) {
            Found::Rule(route) => route,
            Found::WrongMethod => return Err(reply::WRONG_METHOD),
            Found::Nothing => return Err(reply::UNKNOWN_PATH),
        };
        ctx.rule = Some(route.index);
        let Target::Pool(place) = route.target else { return Err(reply::UNKNOWN_PATH) };
        ctx.pool = live.pools.get(place).map(Arc::clone);
        let authorization = head.headers.get("authorization").and_then(|v| v.to_str().ok());
        let client = ctx.client.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |c| c.ip);
        let clues = Clues { path, query, authorization, client };
        ctx.key = sticky::key(route, &clues).map(Cow::into_owned);
        ctx.body_bytes_max = route.body_bytes.unwrap_or(live.config.limits.body_bytes);
        let length = head.headers.get("content-length").and_then(|v| v.to_str().ok());
        let length: Option<u64> = length.and_then(|text| text.parse().ok());
        if length.is_some_and(|length| length > ctx.body_bytes_max) {
            return Err(reply::BODY_TOO_LARGE);
        }
        Ok(())
    }

    /// Builds what Pingora needs to reach a worker.
    fn peer(&self, ctx: &Ctx, live: &Live, address: &Address) -> Result<Box<HttpPeer>> {
        let mut peer = match address {
            Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
            Address::Unix(path) => {
                HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?
            }
        };
        let limits = &live.config.limits;
        let long_poll = ctx.route().is_some_and(|route| route.long_poll);
        peer.options.connection_timeout = Some(limits.connect_timeout);
        peer.options.total_connection_timeout = Some(limits.connect_timeout);
        peer.options.read_timeout =
            Some(if long_poll { limits.long_poll_timeout } else { limits.response_timeout });
        peer.options.write_timeout = Some(limits.response_timeout);
        peer.options.idle_timeout = Some(WORKER_IDLE);
        Ok(Box::new(peer))
    }

    /// Says whether another worker may be tried after this failure.
    fn may_retry(&self, session: &Session, ctx: &Ctx, connected: bool) -> bool {
        if ctx.tried.len() >= ATTEMPTS_MAX {
            return false;
        }
        if !connected {
            return true;
        }
        let once = ctx.tried.len() == 1 && !ctx.retried;
        let replayable = !session.as_ref().retry_buffer_truncated();
        let safe = ctx.route().is_some_and(|route| route.retry == Retry::Safe)
            && session.req_header().method.is_idempotent();
        once && replayable && safe && session.response_written().is_none()
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            began: Instant::now(),
            live: None,
            rule: None,
            pool: None,
            key: None,
            client: None,
            request_id: String::new(),
            tried: Vec::new(),
            retried: false,
            in_flight: None,
            body_bytes: 0,
            body_bytes_max: u64::MAX,
            refused: None,
        }
    }

    /// No modules: each costs every request.
    fn init_downstream_modules(&self, _modules: &mut pingora::modules::http::HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let live = self.live.load_full();
        if let Some(wire) = wire_of(session.digest()) {
            wire.serve_request();
        }
        session.set_read_timeout(Some(live.config.limits.body_timeout));
        session.set_total_drain_timeout(Some(REFUSED_DRAIN));
        session.set_pipelining_enabled(true);
        self.identify(session, ctx, &live);
        ctx.refused = framing::refuse(session, live.config.limits.header_bytes);
        ctx.live = Some(live);
        match ctx.refused {
            Some(_) => Err(Error::new_down(ErrorType::InvalidHTTPHeader)),
            None => Ok(()),
        }
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let Some(live) = ctx.live.clone() else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        if live.config.cors && session.req_header().method == http::Method::OPTIONS {
            self.answer_preflight(session, ctx).await?;
            return Ok(true);
        }
        match self.route(session, ctx, &live) {
            Ok(()) => Ok(false),
            Err(reply) if reply == reply::BODY_TOO_LARGE => {
                ctx.refused = Some(reply);
                Err(Error::new_down(ErrorType::HTTPStatus(reply.status)))
            }
            Err(reply) => {
                self.answer(session, ctx, reply).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let (Some(live), Some(pool)) = (ctx.live.clone(), ctx.pool.clone()) else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let long_poll = ctx.route().is_some_and(|route| route.long_poll);
        let chosen = pool.choose(ctx.key.as_deref(), &ctx.tried);
        let Some((place, attempt)) = chosen.and_then(|p| Some((p, pool.take(p, long_poll)?)))
        else {
            ctx.refused =
                Some(if ctx.tried.is_empty() { reply::NO_WORKER } else { reply::BAD_WORKER });
            return Err(Error::new_up(ErrorType::HTTPStatus(503)));
        };
        ctx.tried.push(place);
        let peer = self.peer(ctx, &live, &attempt.member().address);
        ctx.in_flight = Some(attempt);
        peer
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let Some(client) = &ctx.client {
            request.insert_header("x-forwarded-for", client.forwarded_for.as_str())?;
            request.insert_header("x-forwarded-proto", client.proto)?;
        }
        request.insert_header("x-request-id", ctx.request_id.as_str())?;
        // Workers get the origin form, whatever form the client chose; the bytes stay the same.
        if !request.raw_path().starts_with(b"/")
            && let Some(target) = framing::target(session.req_header())
        {
            request.set_raw_path(target.as_bytes())?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.body_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        if ctx.body_bytes > ctx.body_bytes_max {
            ctx.refused = Some(reply::BODY_TOO_LARGE);
            return Err(Error::new_down(ErrorType::HTTPStatus(413)));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        if let Some(attempt) = &mut ctx.in_flight {
            attempt.unpark();
        }
        response.insert_header("x-request-id", ctx.request_id.as_str())?;
        let cors = ctx.live.as_ref().is_some_and(|live| live.config.cors);
        if cors && !response.headers.contains_key(reply::CORS[0].0) {
            for (name, value) in reply::CORS {
                response.insert_header(name, value)?;
            }
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.end_attempt(&self.metrics, Attempt::NoConnection);
        error.set_retry(self.may_retry(session, ctx, false));
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        let worker_failed = *error.esource() == ErrorSource::Upstream;
        let slow = matches!(error.etype(), ErrorType::ReadTimedout);
        let retry = worker_failed && !slow && self.may_retry(session, ctx, true);
        if worker_failed {
            ctx.end_attempt(&self.metrics, outcome_of(&error));
            // A kept connection may have died of age or of the worker's restart: the worker itself
            // has not failed yet, and is asked again on a fresh one.
            if retry && reused {
                ctx.tried.clear();
                ctx.retried = true;
            }
        }
        error.set_retry(retry);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let reply = ctx.refused.or_else(|| reply_to(error));
        let Some(reply) = reply else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        if session.response_written().is_none() {
            session.set_keepalive(None);
            let _gone = self.answer(session, ctx, reply).await;
            if error.esource() == &ErrorSource::Downstream {
                // Bounded by the drain timeout; the client may still be sending.
                let _gone = session.as_downstream_mut().drain_request_body().await;
            }
        }
        FailToProxy { error_code: reply.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let broken = error.is_some_and(|error| *error.esource() == ErrorSource::Upstream);
        ctx.end_attempt(&self.metrics, if broken { Attempt::Broken } else { Attempt::Answered });
        let rule = ctx.route().map(|route| route.pattern.as_str());
        let pool = ctx.pool.as_ref().map(|pool| pool.name.as_str());
        self.metrics.request(pool, rule, status, ctx.began.elapsed());
        tracing::debug!(
            request_id = ctx.request_id,
            method = session.req_header().method.as_str(),
            rule,
            pool,
            status,
            "request"
        );
    }

    /// Our own log line says what is worth saying.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// The reply to a failure nobody refused on purpose; none when the client is gone.
fn reply_to(error: &Error) -> Option<Reply> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) => Some(Reply::for_status(*status)),
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            Some(reply::WORKER_TOO_SLOW)
        }
        (ErrorSource::Upstream, _) => Some(reply::BAD_WORKER),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(reply::TOO_SLOW),
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, _) => Some(reply::MALFORMED),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(reply::INTERNAL),
    }
}
