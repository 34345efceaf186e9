//! Pingora's phases, in the order a request meets them, and nothing else: every decision is made
//! in a module that knows no Pingora (table, sticky, pools, health, forwarded, reply).

mod answer;
mod attempt;
mod context;
mod door;
mod file;
mod framing;
mod whose;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::modules::http::compression::ResponseCompressionBuilder;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tracing::Span;

pub use context::{Ctx, RequestIds};
pub use door::Door;

use crate::buckets::Buckets;
use crate::config::Config;
use crate::connection::wire_of;
use crate::follow::Heard;
use crate::forwarded;
use crate::live::{Clock, Live};
use crate::metrics::{Attempt, Metrics};
use crate::reply::{self, Reply};
use crate::routes::{Method, Target};
use crate::spans;
use crate::sticky::{self, Clues};
use crate::table::{Asked, Found, split_target};
use crate::whoami::Users;

/// A stop for Pingora's own loop; ours ends earlier, when the hold is over.
pub const PINGORA_ATTEMPTS_MAX: usize = 200;

/// zlib's 1 of 9: JSON shrinks to a fifth at a tenth of the CPU of the highest.
const COMPRESSION_LEVEL: u32 = 1;

/// How long the rest of a refused body is read, so that the client sees why.
const REFUSED_DRAIN: Duration = Duration::from_secs(2);

/// What a worker answers, before it does any work, when another one owns what is asked for.
const NOT_OWNER_STATUS: u16 = 421;

/// The header in which it may say who does: a worker's address as the pool lists it.
const OWNER_HEADER: &str = "x-colonnade-owner";

/// The header that tells the epoch of the map by which it knows.
const EPOCH_HEADER: &str = "x-colonnade-epoch";

/// The gateway as Pingora's phases see it.
pub struct Gateway {
    /// What is in force now.
    pub live: Arc<ArcSwap<Live>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time pools and health know.
    pub clock: Clock,
    /// What addresses have asked.
    pub per_ip: Buckets,
    /// What access tokens have asked.
    pub per_token: Buckets,
    /// What users have asked.
    pub per_user: Buckets,
    /// Whose tokens are.
    pub users: Users,
    /// Whether answers are compressed.
    pub compression: bool,
    /// Makes ids for requests that bring none.
    pub request_ids: RequestIds,
    /// Which slot map is known to exist.
    pub heard: Arc<Heard>,
    /// Whether requests get spans.
    pub spans: bool,
}

impl Gateway {
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
        ctx.trace_goes_on = live.config.continues_trace_of(peer);
        ctx.request_id = match header("x-request-id").filter(|id| forwarded::is_request_id(id)) {
            Some(id) => id.to_owned(),
            None => self.request_ids.next(),
        };
    }

    /// Takes one request of the client's and of the token's rate.
    fn limit(&self, session: &Session, ctx: &Ctx, live: &Live) -> Result<(), Reply> {
        let now_ms = self.clock.now_ms();
        let refused = |ms| reply::LIMIT_EXCEEDED.after(ms);
        if let (Some(rate), Some(client)) = (live.config.rate_per_ip, &ctx.client) {
            self.per_ip.take(forwarded::network(client.ip), rate, now_ms).map_err(refused)?;
        }
        if let Some(rate) = live.config.rate_per_token {
            let head = session.req_header();
            let header = head.headers.get("authorization").and_then(|v| v.to_str().ok());
            let query = head.uri.query().unwrap_or("");
            if let Some(token) = sticky::token(query, header) {
                self.per_token.take(token, rate, now_ms).map_err(refused)?;
            }
        }
        Ok(())
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
}

/// The JSON configured for a `/.well-known/matrix/` path.
fn well_known(session: &Session, config: &Config) -> Option<Bytes> {
    let head = session.req_header();
    if config.well_known.is_empty() || !matches!(head.method.as_str(), "GET" | "HEAD") {
        return None;
    }
    let name = head.uri.path().strip_prefix("/.well-known/matrix/")?;
    config.well_known.get(name).cloned()
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
            trace_goes_on: false,
            span: Span::none(),
            tried: Vec::new(),
            retried: false,
            owner: None,
            worker: None,
            hold_until_ms: None,
            in_flight: None,
            body_bytes: 0,
            body_bytes_max: u64::MAX,
            refused: None,
        }
    }

    /// No modules but the one asked for: each costs every request.
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        if self.compression {
            modules.add_module(ResponseCompressionBuilder::enable(COMPRESSION_LEVEL));
        }
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        let live = self.live.load_full();
        if let Some(wire) = wire_of(session.digest()) {
            wire.serve_request();
        }
        session.set_read_timeout(Some(live.config.limits.body_timeout));
        session.set_total_drain_timeout(Some(REFUSED_DRAIN));
        session.set_pipelining_enabled(true);
        self.identify(session, ctx, &live);
        if self.spans {
            let head = session.req_header();
            let continued = ctx.trace_goes_on.then_some(&head.headers);
            ctx.span = spans::begin(&ctx.request_id, &head.method, continued);
        }
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
        if let Some(json) = well_known(session, &live.config) {
            self.answer_json(session, ctx, json).await?;
            return Ok(true);
        }
        match self.limit(session, ctx, &live).and_then(|()| self.route(session, ctx, &live)) {
            Ok(()) => {
                let Err(reply) = self.find_user(session, ctx, &live).await else {
                    return Ok(false);
                };
                self.answer(session, ctx, reply).await?;
                Ok(true)
            }
            Err(reply) if reply == reply::BODY_TOO_LARGE => {
                ctx.refused = Some(reply);
                Err(Error::new_down(ErrorType::HTTPStatus(reply.status)))
            }
            Err(reply) => {
                let unknown = reply == reply::UNKNOWN_PATH && ctx.rule.is_none();
                if unknown && self.answer_file(session, ctx).await? {
                    return Ok(true);
                }
                self.answer(session, ctx, reply).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let Some(live) = ctx.live.clone() else {
            return Err(Error::new_in(ErrorType::InternalError));
        };
        let Some(attempt) = self.next_worker(ctx, &live).await else {
            ctx.refused = Some(reply::NO_WORKER);
            return Err(Error::new_up(ErrorType::HTTPStatus(reply::NO_WORKER.status)));
        };
        let query = session.req_header().uri.query().unwrap_or("");
        let peer = self.peer(ctx, &live, &attempt.member().address, query);
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
        if !ctx.trace_goes_on {
            for name in spans::HEADERS {
                request.remove_header(name);
            }
        }
        for (name, value) in spans::headers(&ctx.span) {
            request.insert_header(name, value)?;
        }
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

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if response.status.as_u16() != NOT_OWNER_STATUS {
            return Ok(());
        }
        let text = |name: &str| response.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(epoch) = text(EPOCH_HEADER).and_then(|epoch| epoch.parse().ok()) {
            self.heard.of(epoch);
        }
        if !self.may_repeat(session, ctx, Attempt::NotOwner) {
            return Ok(());
        }
        ctx.owner = text(OWNER_HEADER).map(str::to_owned);
        Err(attempt::not_owner())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        ctx.end_attempt(self, Attempt::NoConnection);
        // The next phase decides who is asked then, and when to give up.
        error.set_retry(true);
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
        if *error.esource() != ErrorSource::Upstream {
            error.set_retry(false);
            return error;
        }
        let outcome = attempt::outcome_of(&error, reused);
        let repeat = self.may_repeat(session, ctx, outcome);
        ctx.end_attempt(self, outcome);
        ctx.retried |= repeat;
        if outcome == Attempt::Stale {
            // A kept connection died of age or of the worker's restart: the worker itself has not
            // failed yet, and is asked again on a fresh one.
            ctx.tried.clear();
        }
        error.set_retry(repeat);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let reply = ctx.refused.or_else(|| answer::reply_to(error));
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
        ctx.end_attempt(
            self,
            match error {
                Some(error) if *error.esource() == ErrorSource::Upstream => Attempt::Broken,
                Some(_) if status == 0 => Attempt::Abandoned,
                _ => Attempt::Answered,
            },
        );
        if status == 0
            && let Some(wire) = wire_of(session.digest())
        {
            wire.abandon_request();
        }
        let rule = ctx.route().map(|route| route.pattern.as_str());
        let pool = ctx.pool.as_ref().map(|pool| pool.name.as_str());
        self.metrics.request(pool, rule, status, ctx.began.elapsed());
        let worker = ctx.worker.as_ref().map(|worker| worker.name.as_str());
        spans::end(&ctx.span, rule, pool, worker, status);
        if let Some(log) = ctx.live.as_ref().and_then(|live| live.access_log.as_ref()) {
            log.write(&context::log_line(session, ctx, status));
        }
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
