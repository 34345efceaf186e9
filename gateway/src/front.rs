//! What becomes of a request: who asks, whether it may, which rule, pool and worker take it, what is
//! answered at the door, and what is counted at the end. Knows heads, not how they were read: HTTP/1
//! and HTTP/2 (`lean.rs`) both ask here.

mod answer;
mod attempt;
mod context;
mod whose;

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tracing::Span;

pub use answer::{Answer, FileAnswer, PIECE_BYTES, off_thread};
pub use attempt::WORKER_IDLE;
pub use context::{Ctx, Ended, RequestIds};

use crate::buckets::Buckets;
use crate::config::Config;
use crate::follow::Heard;
use crate::forwarded;
use crate::head::Head;
use crate::lean::{Farewell, KeptCount, Memory};
use crate::live::{Clock, Live};
use crate::metrics::Metrics;
use crate::reply::{self, Reply};
use crate::routes::{Method, Target};
use crate::spans;
use crate::sticky::{self, Clues};
use crate::table::{Asked, Found};
use crate::whoami::Users;

/// How long the rest of a refused body is read, so that the client sees why.
pub const REFUSED_DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Requests on one connection; then it is closed, so that load moves after a change.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;

/// What a worker answers, before it does any work, when another one owns what is asked for.
pub const NOT_OWNER_STATUS: u16 = 421;

/// The header in which it may say who does: a worker's address as the pool lists it.
pub const OWNER_HEADER: &str = "x-colonnade-owner";

/// The header that tells the epoch of the map by which it knows; and in a request, the epoch of the map
/// by which the gateway chose the worker, with the map's proof behind it. Clients cannot send it.
pub const EPOCH_HEADER: &str = "x-colonnade-epoch";

/// Everything requests have in common.
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
    /// Tells connections that the end has come.
    pub farewell: Arc<Farewell>,
    /// What is held of requests' bodies.
    pub bodies: Memory,
    /// How many connections to workers rest, and may.
    pub kept: Arc<KeptCount>,
}

/// What is to be done with a request.
pub enum Verdict {
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
    pub async fn admit(&self, head: &dyn Head, ctx: &mut Ctx) -> Verdict {
        let live = Arc::clone(&ctx.live);
        if live.config.cors && head.method() == "OPTIONS" {
            return Verdict::Here(Answer::to_preflight(ctx));
        }
        if let Some(json) = well_known(head, &live.config) {
            return Verdict::Here(Answer::json(json, ctx));
        }
        match self.limit(head, ctx, &live).and_then(|()| self.route(head, ctx, &live)) {
            Ok(()) if live.config.whoami.is_none() => Verdict::Forward,
            Ok(()) => match self.find_user(head, ctx, &live).await {
                Ok(()) => Verdict::Forward,
                Err(reply) => Verdict::Here(Answer::of(reply, ctx)),
            },
            Err(reply) if reply == reply::BODY_TOO_LARGE => Verdict::Cut(reply),
            Err(reply) => {
                let unknown = reply == reply::UNKNOWN_PATH && ctx.rule.is_none();
                let folder = live.config.static_folder.as_ref().filter(|_| unknown);
                if let Some(folder) = folder
                    && let Some(file) = FileAnswer::find(folder, head, ctx).await
                {
                    return Verdict::File(file);
                }
                Verdict::Here(Answer::of(reply, ctx))
            }
        }
    }

    /// Reads who asks, before anything is decided.
    fn identify(&self, head: &dyn Head, ctx: &mut Ctx, live: &Live, (peer, tls): (IpAddr, bool)) {
        let client = if live.config.trusts(peer.to_canonical()) {
            // Several header lines are one list (RFC 9110 §5.3).
            let told = head.all("x-forwarded-for");
            let told: Vec<&str> =
                told.into_iter().filter_map(|value| crate::head::visible(value)).collect();
            let told = (!told.is_empty()).then(|| told.join(","));
            let proto = head.text("x-forwarded-proto");
            forwarded::client(&live.config, peer, tls, told.as_deref(), proto)
        } else {
            forwarded::stranger(peer, tls)
        };
        ctx.client = Some(client);
        ctx.trace_goes_on = live.config.continues_trace_of(peer);
        ctx.request_id = match head.text("x-request-id").filter(|id| forwarded::is_request_id(id)) {
            Some(id) => id.to_owned(),
            None => self.request_ids.next(),
        };
    }

    /// Takes one request of the client's and of the token's rate.
    fn limit(&self, head: &dyn Head, ctx: &Ctx, live: &Live) -> Result<(), Reply> {
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
    fn route(&self, head: &dyn Head, ctx: &mut Ctx, live: &Arc<Live>) -> Result<(), Reply> {
        let target = head.target();
        if live.table.decisive().iter().any(|name| target.repeats(name)) {
            return Err(reply::UNCLEAR_TARGET);
        }
        let (path, query) = (target.path(), target.query());
        let header = |name: &str| head.header(name);
        let method = Method::of(head.method());
        let asked = Asked { method, path, query, header: &header };
        let route = match live.table.find(&asked) {
            Found::Rule(route) => route,
            Found::WrongMethod(known) => return Err(reply::WRONG_METHOD.allowing(known)),
            Found::Nothing => return Err(reply::UNKNOWN_PATH),
        };
        ctx.rule = Some(route.index);
        let Target::Pool(place) = route.target else { return Err(reply::UNKNOWN_PATH) };
        ctx.pool = live.pools.get(place).map(Arc::clone);
        if route.key.is_some() {
            let authorization = head.text("authorization");
            let client = ctx.client_ip();
            let clues = Clues { path, query, authorization, client };
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

impl Ctx {
    fn new(live: Arc<Live>) -> Self {
        Self {
            began: Instant::now(),
            live,
            rule: None,
            pool: None,
            key: None,
            client: None,
            request_id: String::new(),
            trace_goes_on: false,
            span: Span::none(),
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

    fn client_ip(&self) -> IpAddr {
        self.client.as_ref().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |client| client.ip)
    }
}
