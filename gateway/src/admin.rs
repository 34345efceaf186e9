//! The admin listener: health, readiness, metrics, the table, the pools, reload. On loopback,
//! without a password, and only for who asks it by a name of its own; it changes nothing a client can see
//! except by `POST /reload`.

pub(crate) mod check;
pub(crate) mod connection;
pub(crate) mod explain;
mod host;
mod page;
pub(crate) mod reload;
pub(crate) mod remote;
mod server;

pub(crate) use server::AdminServer;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use colonnade_http1::is_authority;
use http::{Method, Response};
use parking_lot::Mutex;
use pingora::protocols::http::ServerSession;
use serde_json::json;

use crate::admin::check::{Problem, check_live, parse_endpoints};
use crate::admin::connection::wire_of;
use crate::admin::explain::{describe, explain_live};
use crate::admin::reload::Reloader;
use crate::listen::gate::Gate;
use crate::metrics::Metrics;
use crate::routing::routes::Target;

/// What the admin listener shows and does.
pub(crate) struct Admin {
    /// Reloads, and what is in force.
    pub(crate) reloader: Arc<Reloader>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// Open client connections.
    pub(crate) gate: Arc<Gate>,
    /// Whether the gateway is ending.
    pub(crate) closing: pingora::server::ShutdownWatch,
    /// How much was asked lately.
    pub(crate) recent_totals: Arc<RecentTotals>,
    /// Where it is.
    pub(crate) address: Option<SocketAddr>,
}

/// What `POST /check` answers.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Checked {
    /// The file the table in force was made from.
    pub file: String,
    /// Its version, counted from the start of the process.
    pub version: u64,
    /// How many rules it has.
    pub rules: usize,
    /// How many pools it has.
    pub pools: usize,
    /// How many endpoints it was checked against.
    pub endpoints: usize,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// The totals of the last seconds, for rates on the status page.
#[derive(Default)]
pub(crate) struct RecentTotals {
    totals: Mutex<VecDeque<(u64, u64)>>,
}

/// Over how many seconds rates are taken.
const LATELY_S: usize = 10;

impl RecentTotals {
    /// Looks at the totals once a second, until dropped.
    pub(crate) async fn watch(self: Arc<Self>, metrics: Arc<Metrics>) {
        loop {
            {
                let mut totals = self.totals.lock();
                totals.push_back(metrics.totals());
                if totals.len() > LATELY_S + 1 {
                    totals.pop_front();
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Requests and errors per second.
    fn rates(&self) -> (f64, f64) {
        let totals = self.totals.lock();
        let (Some(first), Some(last)) = (totals.front(), totals.back()) else { return (0.0, 0.0) };
        let seconds = (totals.len() - 1).max(1) as f64;
        ((last.0 - first.0) as f64 / seconds, (last.1 - first.1) as f64 / seconds)
    }
}

/// What is answered to whom the listener is a stranger's name.
const NOT_OURS: &str =
    "this listener is asked as localhost, by its address, or by a name in `admin_hosts`\n";

/// What is answered when nobody in particular is asked, or two are.
const UNCLEAR: &str = "the request does not say once whom it asks\n";

const JSON: &str = "application/json";
/// What an unknown path is answered.
const PATHS: &str = "GET / /health /ready /metrics /table /pools /explain?target=\n\
    POST /check /reload[?dry_run] /drain?worker= /undrain?worker=\n";

/// The largest list of endpoints taken at `/check`: ours has 20 kB.
const CHECK_BYTES_MAX: usize = 1 << 20;

const TEXT: &str = "text/plain; charset=utf-8";

fn response(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let body = body.into();
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    let headers = response.headers_mut();
    if let Ok(kind) = http::HeaderValue::from_str(kind) {
        headers.insert(http::header::CONTENT_TYPE, kind);
    }
    headers.insert(http::header::CONTENT_LENGTH, http::HeaderValue::from(length));
    response
}

/// What is answered where another method would do.
fn not_with_this(allow: &'static str, say: &str) -> Response<Vec<u8>> {
    let mut refused = response(405, TEXT, say);
    refused.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static(allow));
    refused
}

/// A parameter of a query, as a person meant it.
fn decoded(query: &str, name: &str) -> Option<String> {
    crate::routing::request_target::parameter(query, name).map(std::borrow::Cow::into_owned)
}

impl Admin {
    /// Makes sure that it is asked by a name of its own, in the target, too; who names none, as HTTP/1.0
    /// allows, is no browser. docs/admin_hosts.tsv has the cases. Otherwise returns the status: 400 when it is
    /// not said once who is asked, 403 when that is somebody else.
    fn admit(&self, head: &pingora::http::RequestHeader) -> Result<(), u16> {
        let mut hosts = head.headers.get_all(http::header::HOST).iter();
        let (given, another) = (hosts.next(), hosts.next());
        if another.is_some() || given.is_none() && head.version != http::Version::HTTP_10 {
            return Err(400);
        }
        let target = http::Uri::try_from(head.raw_path()).map_err(|_| 400_u16)?;
        let target = target.authority().map(|target| target.as_str().as_bytes());
        let given = given.map(http::HeaderValue::as_bytes);
        if let (Some(given), Some(target)) = (given, target)
            && given != target
        {
            return Err(400);
        }
        let live = self.reloader.live.load();
        let names = &live.config.admin_hosts;
        for asked in [given, target].into_iter().flatten() {
            if !is_authority(asked) {
                return Err(400);
            }
            if !host::is_ours(asked, self.address, names) {
                return Err(403);
            }
        }
        Ok(())
    }

    fn ready(&self) -> Response<Vec<u8>> {
        let live = self.reloader.live.load();
        let now_ms = self.reloader.clock.now_ms();
        let empty: Vec<&str> = live
            .pools
            .iter()
            .filter(|pool| !pool.is_open(now_ms))
            .map(|pool| pool.name.as_str())
            .collect();
        let closing = *self.closing.borrow();
        let status = if closing || !empty.is_empty() { 503 } else { 200 };
        let body = json!({ "ready": status == 200, "closing": closing, "closed_pools": empty });
        response(status, JSON, body.to_string())
    }

    fn page(&self) -> Response<Vec<u8>> {
        let (requests_per_s, errors_per_s) = self.recent_totals.rates();
        let facts = page::Facts {
            connections: self.gate.open(),
            requests_per_s,
            errors_per_s,
            in_force_for: self.reloader.in_force_for(),
            last_reload: self.reloader.last(),
            closing: *self.closing.borrow(),
            now_ms: self.reloader.clock.now_ms(),
        };
        let live = self.reloader.live.load();
        response(200, "text/html; charset=utf-8", page::render(&live, &facts))
    }

    fn table(&self) -> Response<Vec<u8>> {
        let live = self.reloader.live.load();
        let rules: Vec<_> = live
            .table
            .routes()
            .iter()
            .map(|route| {
                json!({
                    "line": route.line,
                    "match": route.pattern.as_str(),
                    "methods": route.methods.names(),
                    "pool": match route.target {
                        Target::Pool(place) => json!(live.pools[place].name),
                        Target::Deny => json!(null),
                    },
                    "text": describe(&live.config, route),
                })
            })
            .collect();
        let last = self.reloader.last();
        let body = json!({
            "file": live.config.name,
            "version": live.version,
            "in_force_seconds": self.reloader.in_force_for().as_secs(),
            "last_reload": last.map(|last| json!({
                "seconds_ago": last.at.elapsed().as_secs(),
                "refused": last.refused,
            })),
            "matcher_bytes": live.table.memory_bytes(),
            "rules": rules,
        });
        response(200, JSON, body.to_string())
    }

    fn pools(&self) -> Response<Vec<u8>> {
        let live = self.reloader.live.load();
        let now_ms = self.reloader.clock.now_ms();
        let pools: Vec<_> = live
            .pools
            .iter()
            .map(|pool| {
                let workers: Vec<_> = pool
                    .members
                    .iter()
                    .map(|member| {
                        json!({
                            "address": member.name,
                            "weight": member.weight,
                            "working": member.working(),
                            "long_polling": member.long_polling(),
                            "served": member.served(),
                            "failures": member.failures(),
                            "state": member.health.state(now_ms),
                            "ejections": member.health.ejections(),
                        })
                    })
                    .collect();
                let balance = format!("{:?}", pool.balance);
                json!({ "name": pool.name, "balance": balance, "workers": workers })
            })
            .collect();
        let epoch = live.slots.as_ref().map(|slots| slots.epoch);
        let body = json!({
            "connections": self.gate.open(),
            "slot_map_epoch": epoch,
            "pools": pools,
        });
        response(200, JSON, body.to_string())
    }

    /// `GET /explain?method=&target=&token=&ip=`: what becomes of a request under what is in force.
    fn explain(&self, query: &str) -> Response<Vec<u8>> {
        let (method, target) = (decoded(query, "method"), decoded(query, "target"));
        let Some(target) = target else {
            return response(400, JSON, json!({ "error": "say which ?target=" }).to_string());
        };
        let method = method.unwrap_or_else(|| "GET".to_owned());
        let token = decoded(query, "token");
        let ip = decoded(query, "ip").and_then(|ip| ip.parse().ok());
        let live = self.reloader.live.load();
        let now_ms = self.reloader.clock.now_ms();
        let explained = explain_live(&live, &method, &target, token.as_deref(), ip, now_ms);
        response(200, JSON, json!(explained).to_string())
    }

    /// `POST /check`: whether the table in force fits the endpoints in the body, one
    /// `METHOD /path/{argument}` on each line.
    async fn check(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let mut body = Vec::new();
        while let Ok(Some(piece)) = session.read_request_body().await {
            body.extend_from_slice(&piece);
            if body.len() > CHECK_BYTES_MAX {
                return response(413, TEXT, "so many endpoints no server has\n");
            }
        }
        let live = self.reloader.live.load_full();
        // Off the request threads: finding dead rules visits every state of the matcher.
        let found = tokio::task::spawn_blocking(move || {
            let endpoints = parse_endpoints(&String::from_utf8_lossy(&body));
            let checked = Checked {
                file: live.config.name.clone(),
                version: live.version,
                rules: live.table.routes().len(),
                pools: live.pools.len(),
                endpoints: endpoints.len(),
                problems: check_live(&live, &endpoints),
            };
            json!(checked).to_string()
        });
        match found.await {
            Ok(found) => response(200, JSON, found),
            Err(_) => response(500, JSON, json!({ "error": "check panicked" }).to_string()),
        }
    }

    /// `POST /drain?worker=ADDRESS[&pool=NAME]` empties a worker; `/undrain` takes it back.
    fn drain(&self, query: &str, draining: bool) -> Response<Vec<u8>> {
        let (worker, pool) = (decoded(query, "worker"), decoded(query, "pool"));
        let Some(worker) = worker else {
            return response(400, JSON, json!({ "error": "say which ?worker=" }).to_string());
        };
        let live = self.reloader.live.load();
        let now_ms = self.reloader.clock.now_ms();
        let mut found = Vec::new();
        for known in live.pools.iter().filter(|p| pool.as_ref().is_none_or(|n| *n == p.name)) {
            for member in known.members.iter().filter(|member| member.name == worker) {
                member.health.drain(draining, now_ms);
                known.changed.notify_waiters();
                found.push(json!({
                    "pool": known.name,
                    "working": member.working(),
                    "long_polling": member.long_polling(),
                }));
            }
        }
        let status = if found.is_empty() { 404 } else { 200 };
        let body = json!({ "worker": worker, "draining": draining, "pools": found });
        response(status, JSON, body.to_string())
    }

    /// `POST /reload`, or `POST /reload?dry_run` to see what it would change.
    async fn reload(&self, dry_run: bool) -> Response<Vec<u8>> {
        let reloader = Arc::clone(&self.reloader);
        let reload = move || if dry_run { reloader.dry_run() } else { reloader.reload() };
        // Off the request threads: compiling takes tens of milliseconds.
        match tokio::task::spawn_blocking(reload).await {
            Ok(Ok(report)) => response(200, JSON, json!(report).to_string()),
            Ok(Err(error)) => {
                let faults: Vec<String> = error.faults().iter().map(ToString::to_string).collect();
                let body = json!({ "error": error.to_string(), "faults": faults });
                response(422, JSON, body.to_string())
            }
            Err(_) => response(500, JSON, json!({ "error": "reload panicked" }).to_string()),
        }
    }
}

impl Admin {
    /// Answers a request.
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if let Some(wire) = wire_of(session.digest()) {
            wire.serve_request();
        }
        let head = session.req_header();
        if let Err(status) = self.admit(head) {
            let why = if status == 400 { UNCLEAR } else { NOT_OURS };
            return response(status, TEXT, why);
        }
        // A page in a browser on this machine must not steer the gateway.
        let from_page = head.headers.contains_key(http::header::ORIGIN);
        match (&head.method, head.uri.path()) {
            (&Method::GET, "/") => self.page(),
            (&Method::GET, "/health") => response(200, JSON, r#"{"healthy":true}"#),
            (&Method::GET, "/ready") => self.ready(),
            (&Method::GET, "/metrics") => {
                let live = self.reloader.live.load();
                let reloader = &self.reloader;
                let now_ms = reloader.clock.now_ms();
                let text = live.metrics_text(&self.metrics, reloader.in_force_for(), now_ms);
                response(200, "text/plain; version=0.0.4", text)
            }
            (&Method::GET, "/table") => self.table(),
            (&Method::GET, "/pools") => self.pools(),
            (&Method::GET, "/explain") => self.explain(head.uri.query().unwrap_or("")),
            (&Method::POST, _) if from_page => response(403, TEXT, "not from a page\n"),
            (&Method::POST, "/check") => self.check(session).await,
            (&Method::POST, "/reload") => {
                let query = head.uri.query().unwrap_or("").to_owned();
                self.reload(query.split('&').any(|word| word.starts_with("dry_run"))).await
            }
            (&Method::POST, "/drain") => self.drain(head.uri.query().unwrap_or(""), true),
            (&Method::POST, "/undrain") => self.drain(head.uri.query().unwrap_or(""), false),
            (_, "/" | "/health" | "/ready" | "/metrics" | "/table" | "/pools" | "/explain") => {
                not_with_this("GET", "GET this\n")
            }
            (_, "/check" | "/reload" | "/drain" | "/undrain") => {
                not_with_this("POST", "POST this\n")
            }
            _ => response(404, TEXT, PATHS),
        }
    }
}
