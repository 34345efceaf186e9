//! Which worker is tried next, how long one is waited for, and what a failure allows.

use std::sync::Arc;
use std::time::Duration;

use super::context::Ctx;
use super::gateway::Gateway;
use crate::metrics::Attempt;
use crate::pipeline::active_config::ActiveConfig;
use crate::routing::head::{Head, visible};
use crate::routing::routes::{KeyKind, Retry};
use crate::upstream::pools::{InFlight, Pool};
use crate::upstream::slots::{EPOCH_HEADER, NOT_OWNER_STATUS, OWNER_HEADER};

/// How long an idle connection to a worker is kept: shorter than workers keep theirs, so that a
/// request does not meet one that is just being closed.
pub const WORKER_IDLE: Duration = Duration::from_secs(50);

/// So many workers may say that another one is the owner, and be believed: the first was asked by an old
/// map; the second is not told of any, and of our workers none answers so then.
const MISDIRECTIONS_MAX: u32 = 2;

/// While a request is held it is looked this often whether a worker is back, if nobody tells.
const HOLD_LOOK: Duration = Duration::from_millis(100);

impl Gateway {
    /// Takes a worker for the request: the owner another worker named, one of the pool, one of its
    /// fallbacks; and if there is none, waits for one as long as the limits allow.
    pub async fn next_worker(&self, ctx: &mut Ctx) -> Option<InFlight> {
        let live = Arc::clone(&ctx.live);
        let long_poll = ctx.route().is_some_and(|route| route.long_poll);
        loop {
            self.follow_map(ctx);
            ctx.chosen_by = None;
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
                    return Some(InFlight::unlisted(address, long_poll));
                }
            }
            let changed = first.changed.notified();
            if let Some(taken) = self.take_now(ctx, &live, &first, long_poll) {
                return Some(taken);
            }
            let now_ms = self.clock.now_ms();
            let hold_ms = live.config.limits.hold.as_millis() as u64;
            let until_ms = *ctx.hold_until_ms.get_or_insert(now_ms + hold_ms);
            if now_ms >= until_ms || (first.members.is_empty() && !first.discover) {
                return None;
            }
            let _changed_or_not = tokio::time::timeout(HOLD_LOOK, changed).await;
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
        live: &ActiveConfig,
        first: &Arc<Pool>,
        long_poll: bool,
    ) -> Option<InFlight> {
        let now_ms = self.clock.now_ms();
        let key = ctx.key.take();
        let taken = self.take_keyed(ctx, live, first, (key.as_deref(), long_poll, now_ms));
        ctx.key = key;
        taken
    }

    fn take_keyed(
        &self,
        ctx: &mut Ctx,
        live: &ActiveConfig,
        first: &Arc<Pool>,
        (key, long_poll, now_ms): (Option<&[u8]>, bool, u64),
    ) -> Option<InFlight> {
        if let Some((kind, key)) = ctx.route().and_then(|route| route.key).zip(key)
            && let Some((place, taken)) = first.take_owner(kind, key, &ctx.tried, long_poll, now_ms)
        {
            ctx.tried.push(place);
            // Only one worker may send it on: the next one passes to the owner what is not its own.
            if kind == KeyKind::Room && ctx.misdirected == 0 {
                ctx.chosen_by = self.live.load().slots.clone();
            }
            return Some(taken);
        }
        if let Some((place, taken)) = first.take(key, &ctx.tried, long_poll, now_ms) {
            ctx.tried.push(place);
            return Some(taken);
        }
        let mut next = first.fallback;
        while let Some(pool) = next.and_then(|place| live.pools.get(place)) {
            if let Some((place, taken)) = pool.take(key, &[], long_poll, now_ms) {
                ctx.pool = Some(Arc::clone(pool));
                ctx.tried = vec![place];
                return Some(taken);
            }
            next = pool.fallback;
        }
        None
    }

    /// Looks at an answer's status and headers before anything of it is passed on: does the worker say
    /// that another one owns what is asked for, and may that one be asked?
    pub fn is_misdirected<'h>(
        &self,
        ctx: &mut Ctx,
        head: &dyn Head,
        status: u16,
        header: impl Fn(&str) -> Option<&'h [u8]>,
        replayable: bool,
    ) -> bool {
        if status != NOT_OWNER_STATUS {
            return false;
        }
        let text = |name: &str| visible(header(name)?);
        let epoch = text(EPOCH_HEADER).and_then(|epoch| epoch.parse().ok());
        if let Some((epoch, attempt)) = epoch.zip(ctx.in_flight.as_ref()) {
            self.known_epoch.of(epoch, &attempt.member().address);
        }
        if !ctx.may_repeat(head, Attempt::NotOwner, replayable) {
            return false;
        }
        // A second one that sends it on goes in a circle: any other worker may have it then.
        let owner = text(OWNER_HEADER).filter(|_| ctx.misdirected == 0);
        ctx.owner = owner.map(str::to_owned);
        true
    }
}

impl Ctx {
    /// Says whether a request that a worker may have seen can be sent again: once, and once more where
    /// the first attempt met a kept connection that had died, and for each worker that only said who owns
    /// what is asked for, where it is
    /// replayable (its body kept whole, nothing of an answer passed on), and where doing it twice does
    /// no harm.
    pub(crate) fn may_repeat(&self, head: &dyn Head, outcome: Attempt, replayable: bool) -> bool {
        let is_first_stale = outcome == Attempt::Stale && !self.met_stale;
        let is_misdirected = outcome == Attempt::NotOwner;
        if (self.retried && !is_first_stale && !is_misdirected) || !replayable {
            return false;
        }
        match outcome {
            Attempt::NotOwner => self.misdirected < MISDIRECTIONS_MAX,
            Attempt::Broken | Attempt::Stale => {
                self.route().is_some_and(|route| route.retry == Retry::Safe)
                    && is_idempotent(head.method())
            }
            _ => false,
        }
    }
}

/// Whether doing it twice is doing it once (RFC 9110 §9.2.2).
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}
