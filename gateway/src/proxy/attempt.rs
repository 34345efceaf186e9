//! Which worker is tried next, how long one is waited for, and what a failure allows.

use std::sync::Arc;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::Ctx;
use crate::config::Address;
use crate::live::Live;
use crate::metrics::Attempt;
use crate::pools::{InFlight, Pool};
use crate::routes::Retry;

/// How long an idle connection to a worker is kept: shorter than workers keep theirs, so that a
/// request does not meet one that is just being closed.
const WORKER_IDLE: Duration = Duration::from_secs(50);

/// While a request is held it is looked this often whether a worker is back, if nobody tells.
const HOLD_LOOK: Duration = Duration::from_millis(100);

/// How an attempt failed, read from Pingora's error.
pub(super) fn outcome_of(error: &Error, reused: bool) -> Attempt {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Attempt::TooSlow,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => Attempt::NoConnection,
        _ if is_not_owner(error) => Attempt::NotOwner,
        _ if reused => Attempt::Stale,
        _ => Attempt::Broken,
    }
}

/// A worker answered that another one owns what is asked for.
const NOT_OWNER: ErrorType = ErrorType::Custom("NotOwner");

/// Makes the error that sends a request on to the owner.
pub(super) fn not_owner() -> Box<Error> {
    Error::new_up(NOT_OWNER)
}

fn is_not_owner(error: &Error) -> bool {
    *error.etype() == NOT_OWNER
}

impl Gateway {
    /// Takes a worker for the request: the owner another worker named, one of the pool, one of its
    /// fallbacks; and if there is none, waits for one as long as the limits allow.
    pub(super) async fn next_worker(&self, ctx: &mut Ctx, live: &Arc<Live>) -> Option<InFlight> {
        let long_poll = ctx.route().is_some_and(|route| route.long_poll);
        loop {
            self.follow_map(ctx);
            let first = ctx.pool.clone()?;
            if let Some(owner) = ctx.owner.take() {
                if let Some((place, attempt)) = first.take_named(&owner, long_poll) {
                    ctx.tried.push(place);
                    return Some(attempt);
                }
                // One that the map we have does not know yet; who named it is one of the workers.
                if first.discover
                    && let Ok(address) = owner.parse()
                {
                    return Some(InFlight::stranger(address, long_poll));
                }
            }
            let changed = first.changed.notified();
            if let Some(taken) = self.take_now(ctx, live, &first, long_poll) {
                return Some(taken);
            }
            let now_ms = self.clock.now_ms();
            let hold_ms = live.config.limits.hold.as_millis() as u64;
            let until_ms = *ctx.hold_until_ms.get_or_insert(now_ms + hold_ms);
            if now_ms >= until_ms || (first.members.is_empty() && !first.discover) {
                return None;
            }
            let _told_or_not = tokio::time::timeout(HOLD_LOOK, changed).await;
            // Whoever failed before may be back.
            ctx.tried.clear();
        }
    }

    /// A pool whose workers come from the slot map is looked at as it is now, not as it was when the
    /// request began: the worker it waits for may be one that did not exist then.
    fn follow_map(&self, ctx: &mut Ctx) {
        let Some(pool) = ctx.pool.as_ref().filter(|pool| pool.discover) else { return };
        let live = self.live.load();
        let now = live.pools.iter().find(|now| now.name == pool.name && now.discover);
        if let Some(now) = now.filter(|now| !Arc::ptr_eq(now, pool)) {
            ctx.pool = Some(Arc::clone(now));
            ctx.tried.clear();
        }
    }

    fn take_now(
        &self,
        ctx: &mut Ctx,
        live: &Live,
        first: &Arc<Pool>,
        long_poll: bool,
    ) -> Option<InFlight> {
        let now_ms = self.clock.now_ms();
        let key = ctx.key.clone();
        if let Some((kind, key)) = ctx.route().and_then(|route| route.key).zip(key.as_deref())
            && let Some((place, taken)) = first.take_owner(kind, key, &ctx.tried, long_poll, now_ms)
        {
            ctx.tried.push(place);
            return Some(taken);
        }
        if let Some((place, taken)) = first.take(key.as_deref(), &ctx.tried, long_poll, now_ms) {
            ctx.tried.push(place);
            return Some(taken);
        }
        let mut next = first.fallback;
        while let Some(pool) = next.and_then(|place| live.pools.get(place)) {
            if let Some((place, taken)) = pool.take(key.as_deref(), &[], long_poll, now_ms) {
                ctx.pool = Some(Arc::clone(pool));
                ctx.tried = vec![place];
                return Some(taken);
            }
            next = pool.fallback;
        }
        None
    }

    /// Builds what Pingora needs to reach a worker.
    pub(super) fn peer(
        &self,
        ctx: &Ctx,
        live: &Live,
        to: &Address,
        query: &str,
    ) -> Result<Box<HttpPeer>> {
        let mut peer = match to {
            Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
            Address::Unix(path) => {
                HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?
            }
        };
        let limits = &live.config.limits;
        let long_poll = ctx.route().is_some_and(|route| route.long_poll);
        peer.options.connection_timeout = Some(limits.connect_timeout);
        peer.options.total_connection_timeout = Some(limits.connect_timeout);
        peer.options.read_timeout = Some(limits.patience(long_poll, query));
        peer.options.write_timeout = Some(limits.response_timeout);
        peer.options.idle_timeout = Some(WORKER_IDLE);
        Ok(Box::new(peer))
    }

    /// Says whether a request that a worker may have seen can be sent again: once, its body kept
    /// whole, nothing of an answer passed on, and where doing it twice does no harm.
    pub(super) fn may_repeat(&self, session: &Session, ctx: &Ctx, outcome: Attempt) -> bool {
        let whole = !session.as_ref().retry_buffer_truncated();
        if ctx.retried || !whole || session.response_written().is_some() {
            return false;
        }
        match outcome {
            Attempt::NotOwner => true,
            Attempt::Broken | Attempt::Stale => {
                ctx.route().is_some_and(|route| route.retry == Retry::Safe)
                    && session.req_header().method.is_idempotent()
            }
            _ => false,
        }
    }
}
