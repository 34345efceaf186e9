//! What becomes of a request: who asks, whether it may, which rule and pool take it, what is answered at
//! the door. Knows heads, not how they were read.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::pipeline::active_config::ActiveConfig;
use crate::pipeline::answer::{Answer, FileAnswer};
use crate::pipeline::context::Ctx;
use crate::pipeline::forwarded;
use crate::pipeline::gateway::Gateway;
use crate::pipeline::reply::{self, Reply};
use crate::routing::head::Head;
use crate::routing::routes::{Method, Target};
use crate::routing::sticky::{self, KeySources};
use crate::routing::table::{RequestFacts, RuleMatch};
use crate::spans;

/// What is to be done with a request.
pub enum Disposition {
    /// A worker answers it.
    Forward,
    /// It is answered at the door.
    Here(Answer),
    /// It is answered with a file.
    File(FileAnswer),
    /// It is refused, and the connection with it: the body is not worth waiting for.
    Cut(Reply),
}

impl Gateway {
    /// Begins a request: what is in force, who asks, which trace it belongs to.
    pub fn begin(&self, head: &dyn Head, peer: IpAddr, tls: bool) -> Ctx {
        let live = self.live.load_full();
        let mut ctx = Ctx::new(Arc::clone(&live));
        self.identify(head, &mut ctx, &live, (peer, tls));
        if self.spans {
            let continued = ctx.trace_goes_on.then_some(head);
            ctx.span = spans::begin(&ctx.request_id, head.method(), continued);
        }
        ctx
    }

    /// Decides what becomes of a request.
    pub async fn admit(&self, head: &dyn Head, ctx: &mut Ctx) -> Disposition {
        let live = Arc::clone(&ctx.live);
        if live.config.cors && head.method() == "OPTIONS" {
            return Disposition::Here(Answer::to_preflight(ctx));
        }
        if let Some(json) = well_known(head, &live.config) {
            return Disposition::Here(Answer::json(json, ctx));
        }
        match self.limit(head, ctx, &live).and_then(|()| self.route(head, ctx, &live)) {
            Ok(()) if live.config.whoami.is_none() => Disposition::Forward,
            Ok(()) => match self.find_user(head, ctx, &live).await {
                Ok(()) => Disposition::Forward,
                Err(reply) => Disposition::Here(Answer::of(reply, ctx)),
            },
            Err(reply) if reply == reply::BODY_TOO_LARGE => Disposition::Cut(reply),
            Err(reply) => {
                let unknown = reply == reply::UNKNOWN_PATH && ctx.rule.is_none();
                let folder = live.config.static_folder.as_ref().filter(|_| unknown);
                if let Some(folder) = folder
                    && let Some(file) = FileAnswer::find(folder, head, ctx).await
                {
                    return Disposition::File(file);
                }
                Disposition::Here(Answer::of(reply, ctx))
            }
        }
    }

    /// Reads who asks, before anything is decided.
    fn identify(
        &self,
        head: &dyn Head,
        ctx: &mut Ctx,
        live: &ActiveConfig,
        (peer, tls): (IpAddr, bool),
    ) {
        let client = if live.config.trusts(peer.to_canonical()) {
            // Several header lines are one list (RFC 9110 §5.3).
            let given = head.all("x-forwarded-for");
            let given: Vec<&str> = given
                .into_iter()
                .filter_map(|value| crate::routing::head::visible(value))
                .collect();
            let given = (!given.is_empty()).then(|| given.join(","));
            let proto = head.text("x-forwarded-proto");
            forwarded::client(&live.config, peer, tls, given.as_deref(), proto)
        } else {
            forwarded::as_connected(peer, tls)
        };
        ctx.client = Some(client);
        ctx.trace_goes_on = live.config.continues_trace_of(peer);
        ctx.request_id = match head.text("x-request-id").filter(|id| forwarded::is_request_id(id)) {
            Some(id) => id.to_owned(),
            None => self.request_ids.next(),
        };
    }

    /// Takes one request of the client's and of the token's rate.
    fn limit(&self, head: &dyn Head, ctx: &Ctx, live: &ActiveConfig) -> Result<(), Reply> {
        let refused = |ms| reply::LIMIT_EXCEEDED.after(ms);
        if let (Some(rate), Some(client)) = (live.config.rate_per_ip, &ctx.client) {
            let now_ms = self.clock.now_ms();
            self.per_ip.take(forwarded::network(client.ip), rate, now_ms).map_err(refused)?;
        }
        if let Some(rate) = live.config.rate_per_token {
            let query = head.target().query();
            if let Some(token) = sticky::token(query, head.text("authorization")) {
                self.per_token.take(&*token, rate, self.clock.now_ms()).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Finds rule, pool and key; or the reply to give instead.
    fn route(&self, head: &dyn Head, ctx: &mut Ctx, live: &Arc<ActiveConfig>) -> Result<(), Reply> {
        let target = head.target();
        if live.table.decisive().iter().any(|name| target.repeats(name)) {
            return Err(reply::UNCLEAR_TARGET);
        }
        let (path, query) = (target.path(), target.query());
        let header = |name: &str| head.header(name);
        let method = Method::of(head.method());
        let asked = RequestFacts { method, path, query, header: &header };
        let route = match live.table.find(&asked) {
            RuleMatch::Rule(route) => route,
            RuleMatch::WrongMethod(known) => return Err(reply::WRONG_METHOD.allowing(known)),
            RuleMatch::Nothing => return Err(reply::UNKNOWN_PATH),
        };
        ctx.rule = Some(route.index);
        let Target::Pool(place) = route.target else { return Err(reply::UNKNOWN_PATH) };
        ctx.pool = live.pools.get(place).map(Arc::clone);
        if route.key.is_some() {
            let authorization = head.text("authorization");
            let client = ctx.client_ip();
            let clues = KeySources { path, query, authorization, client };
            ctx.key = sticky::key(route, &clues).map(Cow::into_owned);
        }
        ctx.patience = live.config.limits.patience(route.long_poll, query);
        ctx.body_bytes_max = route.body_bytes.unwrap_or(live.config.limits.body_bytes);
        let length: Option<u64> = head.text("content-length").and_then(|text| text.parse().ok());
        if length.is_some_and(|length| length > ctx.body_bytes_max) {
            return Err(reply::BODY_TOO_LARGE);
        }
        Ok(())
    }
}

/// The JSON configured for a `/.well-known/matrix/` path.
fn well_known(head: &dyn Head, config: &Config) -> Option<bytes::Bytes> {
    if config.well_known.is_empty() || !matches!(head.method(), "GET" | "HEAD") {
        return None;
    }
    let name = head.target().path().strip_prefix("/.well-known/matrix/")?;
    config.well_known.get(name).cloned()
}
