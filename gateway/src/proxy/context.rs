//! What is known about one request while it goes through the phases.

use std::sync::Arc;
use std::time::Instant;

use pingora::proxy::Session;

use super::{Gateway, framing};
use crate::access_log::{self, Line};
use crate::forwarded::Client;
use crate::live::Live;
use crate::metrics::Attempt;
use crate::pools::{InFlight, Member, Pool};
use crate::reply::Reply;
use crate::routes::Route;

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

    pub(super) fn next(&self) -> String {
        let count = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("{:016x}-{count:x}", self.seed)
    }
}

/// The label of workers that no pool lists.
const UNLISTED: &str = "unlisted";

/// What is known about one request.
pub struct Ctx {
    pub(super) began: Instant,
    pub(super) live: Option<Arc<Live>>,
    pub(super) rule: Option<usize>,
    pub(super) pool: Option<Arc<Pool>>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) client: Option<Client>,
    pub(super) request_id: String,
    /// Whether the client's trace is continued.
    pub(super) trace_goes_on: bool,
    /// The request's own span, if requests have any.
    pub(super) span: tracing::Span,
    /// Members of the pool that could not take the request.
    pub(super) tried: Vec<usize>,
    /// Whether the request was sent a second time, after a worker may have seen it.
    pub(super) retried: bool,
    /// The worker that owns what is asked for, as another one said.
    pub(super) owner: Option<String>,
    /// The worker that answered.
    pub(super) worker: Option<Arc<Member>>,
    /// Until when a worker is waited for; set when there was none.
    pub(super) hold_until_ms: Option<u64>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) body_bytes: u64,
    pub(super) body_bytes_max: u64,
    pub(super) refused: Option<Reply>,
}

impl Ctx {
    pub(super) fn route(&self) -> Option<&Route> {
        self.live.as_ref()?.table.routes().get(self.rule?)
    }

    /// Ends the attempt under way, counting how it went.
    pub(super) fn end_attempt(&mut self, gateway: &Gateway, outcome: Attempt) {
        let Some(attempt) = self.in_flight.take() else { return };
        let Some(pool) = &self.pool else { return };
        // Labels stay bounded: whom the pool does not list has no series of its own.
        let listed = pool.members.iter().any(|member| Arc::ptr_eq(member, attempt.member()));
        let worker = if listed { attempt.member().name.as_str() } else { UNLISTED };
        gateway.metrics.attempt(&pool.name, worker, outcome);
        // That a long poll waited too long for news says nothing about the worker.
        let long_poll = self.route().is_some_and(|route| route.long_poll);
        let sign = outcome.sign().filter(|_| !(long_poll && outcome == Attempt::TooSlow));
        if outcome == Attempt::Answered {
            self.worker = Some(Arc::clone(attempt.member()));
        }
        attempt.ended(pool, sign, gateway.clock.now_ms());
    }
}

/// What the access log says about a finished request.
pub(super) fn log_line<'a>(session: &'a Session, ctx: &'a Ctx, status: u16) -> Line<'a> {
    let head = session.req_header();
    let target = framing::target(head).unwrap_or_default();
    Line {
        time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        request_id: &ctx.request_id,
        client: ctx.client.as_ref().map(|client| client.ip),
        method: head.method.as_str(),
        target: access_log::redact(&target),
        protocol: format!("{:?}", head.version),
        status,
        bytes: session.body_bytes_sent(),
        took_ms: ctx.began.elapsed().as_millis() as u64,
        pool: ctx.pool.as_ref().map(|pool| pool.name.as_str()),
        rule: ctx.route().map(|route| route.line),
        worker: ctx.worker.as_ref().map(|worker| worker.name.as_str()),
        user_agent: head.headers.get("user-agent").and_then(|value| value.to_str().ok()),
    }
}
