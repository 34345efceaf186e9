//! What is known about one request while it is served, and what is counted when it ends.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gateway::Gateway;
use crate::metrics::{Attempt, RuleSeries};
use crate::pipeline::access_log::{self, Line};
use crate::pipeline::active_config::ActiveConfig;
use crate::pipeline::forwarded::Client;
use crate::pipeline::reply::{self, Reply};
use crate::routing::head::Head;
use crate::routing::routes::{Route, Target};
use crate::spans;
use crate::upstream::pools::{InFlight, Member, Pool};
use crate::upstream::slots::SlotMap;

/// The label of workers that no pool lists.
const UNLISTED: &str = "unlisted";

/// What is known about one request.
pub struct Ctx {
    pub(crate) began: Instant,
    /// What was in force when it began.
    pub live: Arc<ActiveConfig>,
    /// The place of the rule that took it.
    pub rule: Option<usize>,
    pub(crate) pool: Option<Arc<Pool>>,
    pub(crate) key: Option<Vec<u8>>,
    /// Who asks.
    pub client: Option<Client>,
    /// Its id, as client and worker know it.
    pub request_id: String,
    /// Whether the client's trace is continued.
    pub trace_goes_on: bool,
    /// The request's own span, if requests have any.
    pub span: tracing::Span,
    /// Members of the pool that could not take the request.
    pub(crate) tried: Vec<usize>,
    /// Whether the request was sent a second time, after a worker may have seen it.
    pub(crate) retried: bool,
    /// Whether a kept connection has died under it: the first that does is no attempt.
    pub(crate) met_stale: bool,
    /// How many workers said that another one owns what is asked for.
    pub(crate) misdirected: u32,
    /// The worker that owns what is asked for, as another one said.
    pub(crate) owner: Option<String>,
    /// The map by which the attempt's worker was chosen as the owner, where the worker is told of it.
    pub(crate) chosen_by: Option<Arc<SlotMap>>,
    /// The worker that answered.
    pub(crate) worker: Option<Arc<Member>>,
    /// Until when a worker is waited for; set when there was none.
    pub(crate) hold_until_ms: Option<u64>,
    /// The attempt under way.
    pub in_flight: Option<InFlight>,
    /// How long a worker's answer is waited for.
    pub patience: Duration,
    /// How much of the body has come.
    pub body_bytes: u64,
    /// How much may come.
    pub body_bytes_max: u64,
    /// Why it is refused, if it is.
    pub refused: Option<Reply>,
}

impl Ctx {
    pub(crate) fn new(live: Arc<ActiveConfig>) -> Self {
        Self {
            began: Instant::now(),
            live,
            rule: None,
            pool: None,
            key: None,
            client: None,
            request_id: String::new(),
            trace_goes_on: false,
            span: tracing::Span::none(),
            tried: Vec::new(),
            retried: false,
            met_stale: false,
            misdirected: 0,
            owner: None,
            chosen_by: None,
            worker: None,
            hold_until_ms: None,
            in_flight: None,
            patience: std::time::Duration::ZERO,
            body_bytes: 0,
            body_bytes_max: u64::MAX,
            refused: None,
        }
    }

    pub(crate) fn client_ip(&self) -> IpAddr {
        self.client.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |client| client.ip)
    }

    /// The rule that took the request.
    pub fn route(&self) -> Option<&Route> {
        self.live.table.routes().get(self.rule?)
    }

    /// The header line that tells the worker by which map it was chosen: one that knows better may then
    /// answer who the owner is.
    pub fn map_line(&self) -> Option<&str> {
        self.chosen_by.as_ref()?.epoch_header.as_deref()
    }

    /// The series of its rule; none where another pool than the rule's serves it.
    fn series(&self) -> Option<&RuleSeries> {
        let (rule, pool) = (self.rule?, self.pool.as_ref()?);
        let Target::Pool(place) = self.route()?.target else { return None };
        let own = self.live.pools.get(place).is_some_and(|own| own.name == pool.name);
        own.then(|| self.live.series.get(rule)).flatten()
    }

    /// Ends the attempt under way, counting how it went.
    pub fn end_attempt(&mut self, gateway: &Gateway, outcome: Attempt) {
        let Some(attempt) = self.in_flight.take() else { return };
        let Some(pool) = &self.pool else { return };
        // Labels stay bounded: whom the pool does not list has no series of its own.
        let listed = pool.members.iter().any(|member| Arc::ptr_eq(member, attempt.member()));
        let member = attempt.member();
        let (worker, series) = match listed {
            true => (member.name.as_str(), Some(&member.series)),
            false => (UNLISTED, None),
        };
        gateway.metrics.attempt(&pool.name, worker, series, outcome);
        // That a long poll waited too long for news says nothing about the worker.
        let long_poll = self.route().is_some_and(|route| route.long_poll);
        let sign = outcome.sign().filter(|_| !(long_poll && outcome == Attempt::TooSlow));
        if outcome == Attempt::Answered {
            self.worker = Some(Arc::clone(attempt.member()));
        }
        attempt.ended(pool, sign, gateway.clock.now_ms());
    }

    /// Ends an attempt that failed after a worker may have seen the request: it may be sent to another
    /// one.
    ///
    /// # Errors
    /// The reply to the client, where sending it again could do harm or has been tried.
    pub fn attempt_failed(
        &mut self,
        gateway: &Gateway,
        head: &dyn Head,
        outcome: Attempt,
        replayable: bool,
    ) -> Result<(), Reply> {
        let repeat = self.may_repeat(head, outcome, replayable);
        if outcome == Attempt::Stale
            && let Some(attempt) = &self.in_flight
        {
            // What killed one of the worker's kept connections has most likely killed the others.
            attempt.member().kept.clear();
        }
        self.end_attempt(gateway, outcome);
        if outcome == Attempt::Stale {
            // A kept connection died of age or of the worker's restart: the worker itself has not
            // failed yet, and is asked again on a fresh one.
            self.tried.clear();
        }
        match outcome {
            // It may be dying just now, so that the fresh one breaks, too; then others are asked.
            Attempt::Stale if !self.met_stale => self.met_stale = true,
            // Nothing was done: the repeat that failures allow is still to be had.
            Attempt::NotOwner => self.misdirected += 1,
            _ => self.retried |= repeat,
        }
        match outcome {
            _ if repeat => Ok(()),
            Attempt::TooSlow => Err(reply::WORKER_TOO_SLOW),
            _ => Err(reply::BAD_WORKER),
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The status sent, 0 when nothing was.
    pub status: u16,
    /// Bytes of the body sent.
    pub bytes: usize,
    /// How its last attempt at a worker went.
    pub attempt: Attempt,
}

impl Ended {
    /// The client went away before it was answered.
    pub const GONE: Self = Self { status: 0, bytes: 0, attempt: Attempt::Abandoned };
}

impl Gateway {
    /// Counts and writes down a request that has ended.
    pub fn end(&self, head: &dyn Head, ctx: &mut Ctx, ended: Ended) {
        let status = ended.status;
        ctx.end_attempt(self, ended.attempt);
        let rule = ctx.route().map(|route| route.pattern.as_str());
        let pool = ctx.pool.as_ref().map(|pool| pool.name.as_str());
        self.metrics.request(pool, rule, ctx.series(), (status, ctx.began.elapsed()));
        let worker = ctx.worker.as_ref().map(|worker| worker.name.as_str());
        spans::end(&ctx.span, rule, pool, worker, status);
        if let Some(log) = &ctx.live.access_log {
            log.write(&log_line(head, ctx, ended));
        }
        tracing::debug!(
            request_id = ctx.request_id,
            method = head.method(),
            rule,
            pool,
            status,
            "request"
        );
    }
}

/// What the access log says about a finished request.
fn log_line<'a>(head: &'a dyn Head, ctx: &'a Ctx, ended: Ended) -> Line<'a> {
    Line {
        time: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        request_id: &ctx.request_id,
        client: ctx.client.as_ref().map(|client| -> IpAddr { client.ip }),
        method: head.method(),
        target: access_log::redact(head.target().as_str()),
        protocol: head.protocol(),
        status: ended.status,
        bytes: ended.bytes,
        took_ms: ctx.began.elapsed().as_millis() as u64,
        pool: ctx.pool.as_ref().map(|pool| pool.name.as_str()),
        rule: ctx.route().map(|route| route.line),
        worker: ctx.worker.as_ref().map(|worker| worker.name.as_str()),
        user_agent: head.text("user-agent"),
    }
}
