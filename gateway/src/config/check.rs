//! From the raw shape of a routes file to values that cannot be wrong, collecting every fault.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::error::{ConfigError, Fault, nearest};
use super::raw::{
    RawBalance, RawConfig, RawEngine, RawFrom, RawHealth, RawKey, RawLimits, RawListen, RawPool,
    RawRate, RawRetry, RawRoute,
};
use super::settings::{
    Balance, Config, Engine, From, HealthConfig, Limits, Listen, POOL_WORKERS_MAX, PoolConfig,
    ROUTES_MAX, TlsConfig,
};
use super::units::{Address, ByteSize, IpRange, Span, worker};
use crate::pipeline::access_log;
use crate::pipeline::rate_limit::Rate;
use crate::routing::routes::{KeyKind, Method, Methods, Predicate, Retry, Route, Target};
use crate::routing::table::pattern::Pattern;
use colonnade_http1::{host_of, is_authority};

/// Failures in a row after which a worker is left alone for a moment. One or two may be the fault
/// of a request; a worker that cannot even be reached is left alone at once.
const EJECT_AFTER: u32 = 3;

/// How long a worker that has come back is given less than its share: about as long as its caches
/// take to warm.
const SLOW_START: Duration = Duration::from_secs(10);

/// Collects faults while checking goes on, so that one reading shows them all.
struct Faults<'a> {
    file: &'a str,
    found: Vec<Fault>,
}

impl Faults<'_> {
    fn at<T>(&mut self, place: &Spanned<T>, key: &str, problem: String, mend: Option<String>) {
        self.found.push(Fault {
            file: self.file.to_owned(),
            line: place.referenced.line(),
            column: place.referenced.column(),
            key: Some(key.to_owned()),
            problem,
            mend,
        });
    }

    fn whole_file(&mut self, key: &str, problem: String, mend: &str) {
        self.found.push(Fault {
            file: self.file.to_owned(),
            line: 0,
            column: 0,
            key: Some(key.to_owned()),
            problem,
            mend: Some(mend.to_owned()),
        });
    }

    /// Parses a small value; a failure is recorded with the text the value itself gives.
    fn parse<T, E: Into<String>>(
        &mut self,
        key: &str,
        text: &Spanned<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.at(text, key, problem.into(), None);
                None
            }
        }
    }
}

pub(super) fn check(file: &str, raw: RawConfig) -> Result<Config, ConfigError> {
    let mut faults = Faults { file, found: Vec::new() };
    let pools = pools(&mut faults, raw.pools);
    let routes = routes(&mut faults, &pools, raw.routes);
    let listen = raw.listen.into_iter().filter_map(|raw| listener(&mut faults, raw)).collect();
    let admin = raw.admin.as_ref().and_then(|text| admin(&mut faults, text));
    let hosts = raw.admin_hosts.iter();
    let admin_hosts = hosts.filter_map(|text| faults.parse("admin_hosts", text, host)).collect();
    let mut ranges = |key: &str, raw: &[Spanned<String>]| -> Vec<IpRange> {
        raw.iter().filter_map(|text| faults.parse(key, text, str::parse)).collect()
    };
    let trusted_proxies = ranges("trusted_proxies", &raw.trusted_proxies);
    let deny_ips = ranges("deny_ips", &raw.deny_ips);
    let rate_per_ip = raw.rate_limits.per_ip.as_ref().and_then(|raw| rate(&mut faults, raw));
    let rate_per_token = raw.rate_limits.per_token.as_ref().and_then(|raw| rate(&mut faults, raw));
    let rate_per_user = raw.rate_limits.per_user.as_ref().and_then(|raw| rate(&mut faults, raw));
    let whoami = raw.whoami.as_ref().and_then(|name| whoami(&mut faults, &pools, name));
    if let (Some(limit), None) = (&raw.rate_limits.per_user, &raw.whoami) {
        let problem = "needs to know whose a token is".to_owned();
        let mend = "add `whoami: <pool>`, the pool that answers /account/whoami".to_owned();
        faults.at(&limit.per_second, "per_user", problem, Some(mend));
    }
    let access_log =
        raw.access_log.as_ref().and_then(|text| faults.parse("access_log", text, log_target));
    let static_folder =
        raw.static_folder.as_ref().and_then(|text| faults.parse("static_folder", text, absolute));
    let slot_map_file =
        raw.slot_map_file.as_ref().and_then(|text| faults.parse("slot_map_file", text, absolute));
    let mut discovering = pools.iter().filter(|pool| pool.discover).peekable();
    if discovering.peek().is_some() && discovering.all(|pool| pool.workers.is_empty()) {
        let problem = "is wanted, but no pool that discovers names a worker to ask".to_owned();
        faults.whole_file("discover", problem, "add one worker to `workers` of such a pool");
    }
    let well_known = raw.well_known.into_iter().map(|(name, json)| (name, json.to_string().into()));
    if !faults.found.is_empty() {
        return Err(ConfigError::Faults(faults.found));
    }
    Ok(Config {
        name: file.to_owned(),
        listen,
        admin,
        admin_hosts,
        trusted_proxies,
        cors: raw.cors,
        well_known: well_known.collect(),
        static_folder,
        rate_per_ip,
        rate_per_token,
        rate_per_user,
        whoami,
        deny_ips,
        access_log,
        slot_map_file,
        trace_context: match raw.trace_context {
            RawFrom::TrustedProxies => From::TrustedProxies,
            RawFrom::Everyone => From::Everyone,
            RawFrom::Nobody => From::Nobody,
        },
        compression: raw.compression,
        limits: limits(&raw.limits),
        pools,
        routes,
    })
}

/// The pool that is asked whose a token is.
fn whoami(faults: &mut Faults<'_>, pools: &[PoolConfig], name: &Spanned<String>) -> Option<usize> {
    let place = pools.iter().position(|pool| pool.name == name.value);
    if place.is_none() {
        let near = nearest(&name.value, pools.iter().map(|pool| pool.name.as_str()));
        let mend = near.map(|near| format!("did you mean `{near}`?"));
        faults.at(name, "whoami", format!("`{}` is not one of the pools", name.value), mend);
    }
    place
}

fn rate(faults: &mut Faults<'_>, raw: &RawRate) -> Option<Rate> {
    let per_second = raw.per_second.value;
    if !(0.01..=1_000_000.0).contains(&per_second) || raw.burst == 0 {
        let problem = "is no rate a request could pass".to_owned();
        let mend = "write it like { per_second: 20, burst: 100 }".to_owned();
        faults.at(&raw.per_second, "per_second", problem, Some(mend));
        return None;
    }
    Some(Rate { per_second, burst: raw.burst })
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    match text.starts_with('/') {
        true => Ok(text.into()),
        false => Err(format!("`{text}` is not an absolute path")),
    }
}

fn log_target(text: &str) -> Result<access_log::Target, String> {
    match text {
        "stdout" => Ok(access_log::Target::Stdout),
        path if path.starts_with('/') => Ok(access_log::Target::File(path.into())),
        _ => Err(format!("`{text}` is neither stdout nor an absolute path")),
    }
}

fn listener(faults: &mut Faults<'_>, raw: RawListen) -> Option<Listen> {
    let bind = faults.parse("bind", &raw.bind, str::parse)?;
    if raw.proxy_protocol && matches!(bind, Address::Unix(_)) {
        let problem =
            "is a unix socket, where nobody needs to tell the client's address".to_owned();
        faults.at(&raw.bind, "bind", problem, Some("leave out `proxy_protocol`".to_owned()));
        return None;
    }
    if raw.tls.as_ref().is_some_and(|tls| tls.certificates.is_empty()) {
        let problem = "is encrypted, but has no certificate".to_owned();
        let mend = "add `certificates: [{ cert: …, key: … }]`, or leave out `tls`";
        faults.at(&raw.bind, "bind", problem, Some(mend.to_owned()));
        return None;
    }
    let tls = raw.tls.map(|tls| TlsConfig {
        certificates: tls.certificates.into_iter().map(|pair| (pair.cert, pair.key)).collect(),
        http2: tls.http2,
    });
    let engine = match raw.engine {
        RawEngine::Direct => Engine::Direct,
        RawEngine::Pingora => Engine::Pingora,
    };
    Some(Listen { name: raw.name, bind, tls, proxy_protocol: raw.proxy_protocol, engine })
}

/// The admin listener answers whoever reaches it, so it must not be reachable from outside.
fn admin(faults: &mut Faults<'_>, text: &Spanned<String>) -> Option<std::net::SocketAddr> {
    let wrong = "is not an address; write it like 127.0.0.1:8009";
    let parsed: Option<std::net::SocketAddr> =
        faults.parse("admin", text, |s| s.parse().map_err(|_| format!("`{s}` {wrong}")));
    let address = parsed?;
    if !address.ip().is_loopback() {
        let problem = format!("{address} is reachable from other machines and asks no password");
        faults.at(text, "admin", problem, Some("use 127.0.0.1 or [::1]".to_owned()));
        return None;
    }
    Some(address)
}

/// A name or an address, without a port.
fn host(text: &str) -> Result<String, String> {
    let host = host_of(text);
    match is_authority(text.as_bytes()) && host.len() == text.len() {
        true => Ok(host),
        false => Err(format!("`{text}` is not a host's name; write it like gateway.internal")),
    }
}

fn limits(raw: &RawLimits) -> Limits {
    let given = Limits::default();
    let bytes = |raw: Option<ByteSize>, default| raw.map_or(default, |size| size.0);
    let span = |raw: Option<Span>, default| raw.map_or(default, |span| span.0);
    Limits {
        header_bytes: bytes(raw.header_bytes, given.header_bytes),
        header_timeout: span(raw.header_timeout, given.header_timeout),
        keepalive_timeout: span(raw.keepalive_timeout, given.keepalive_timeout),
        body_timeout: span(raw.body_timeout, given.body_timeout),
        body_bytes: bytes(raw.body_bytes, given.body_bytes),
        kept_body_bytes: bytes(raw.kept_body_bytes, given.kept_body_bytes),
        connect_timeout: span(raw.connect_timeout, given.connect_timeout),
        response_timeout: span(raw.response_timeout, given.response_timeout),
        long_poll_timeout: span(raw.long_poll_timeout, given.long_poll_timeout),
        connections: raw.connections.unwrap_or(given.connections),
        connections_per_ip: raw.connections_per_ip.unwrap_or(given.connections_per_ip),
        hold: span(raw.hold, given.hold),
        idle_worker_connections: raw
            .idle_worker_connections
            .unwrap_or(given.idle_worker_connections),
    }
}

fn key_kind(raw: RawKey) -> KeyKind {
    match raw {
        RawKey::Room => KeyKind::Room,
        RawKey::User => KeyKind::User,
        RawKey::SourceIp => KeyKind::SourceIp,
        RawKey::Origin => KeyKind::Origin,
    }
}

fn pools(
    faults: &mut Faults<'_>,
    raw: std::collections::BTreeMap<String, RawPool>,
) -> Vec<PoolConfig> {
    if raw.is_empty() {
        faults.whole_file("pools", "names no pool".to_owned(), "add at least one pool");
    }
    let names: Vec<String> = raw.keys().cloned().collect();
    let mut pools: Vec<PoolConfig> = Vec::with_capacity(raw.len());
    for (name, raw) in raw {
        let mut made = pool(faults, name, &raw);
        made.fallback = raw.fallback.as_ref().and_then(|text| {
            let place = names.iter().position(|name| *name == text.value);
            if place.is_none() {
                let near = nearest(&text.value, names.iter().map(String::as_str));
                let mend = near.map(|near| format!("did you mean `{near}`?"));
                let problem = format!("`{}` is not one of the pools", text.value);
                faults.at(text, "fallback", problem, mend);
            }
            place
        });
        pools.push(made);
    }
    for pool in &pools {
        let mut next = pool.fallback;
        // A chain longer than the number of pools goes round.
        let steps = pools.iter().take_while(|_| {
            next = next.and_then(|place| pools[place].fallback);
            next.is_some()
        });
        if steps.count() == pools.len() {
            let problem = format!("the fallbacks of pool `{}` go round in a circle", pool.name);
            faults.whole_file("fallback", problem, "let one of them end");
            break;
        }
    }
    pools
}

fn pool(faults: &mut Faults<'_>, name: String, raw: &RawPool) -> PoolConfig {
    let balance = match raw.balance {
        RawBalance::LeastConn => Balance::LeastConn,
        RawBalance::RoundRobin => Balance::RoundRobin,
        RawBalance::Single => Balance::Single,
        RawBalance::Hash(key) => Balance::Hash(key_kind(key)),
    };
    let mut workers = Vec::new();
    let mut seen = HashSet::new();
    for text in &raw.workers {
        let Some((address, weight)) = faults.parse("workers", text, worker) else { continue };
        if !seen.insert(address.clone()) {
            let problem = format!("{address} stands twice in pool `{name}`");
            faults.at(text, "workers", problem, Some("use weight=2 for a double share".to_owned()));
            continue;
        }
        workers.push((address, weight));
    }
    if workers.len() > POOL_WORKERS_MAX {
        let problem = format!("pool `{name}` has {} workers", workers.len());
        faults.whole_file("workers", problem, &format!("at most {POOL_WORKERS_MAX} are possible"));
    }
    if let Some(bound) = &raw.bounded_load
        && !(1.0..=100.0).contains(&bound.value)
    {
        let problem = format!("{} is not a share above 1", bound.value);
        faults.at(bound, "bounded_load", problem, Some("1.25 is a good start".to_owned()));
    }
    PoolConfig {
        name,
        balance,
        workers,
        discover: raw.discover,
        leaving: Vec::new(),
        owners: Vec::new(),
        bounded_load: raw.bounded_load.as_ref().map(|bound| bound.value),
        health: raw.health.as_ref().and_then(|raw| health(faults, raw)),
        eject_after: raw.eject_after.unwrap_or(EJECT_AFTER),
        slow_start: raw.slow_start.map_or(SLOW_START, |span| span.0),
        fallback: None,
    }
}

fn health(faults: &mut Faults<'_>, raw: &RawHealth) -> Option<HealthConfig> {
    let path = &raw.path.value;
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        let problem = format!("`{path}` is not a path");
        faults.at(&raw.path, "path", problem, Some("write it like /health".to_owned()));
        return None;
    }
    let span = |raw: Option<Span>, default: u64| raw.map_or(Duration::from_secs(default), |s| s.0);
    Some(HealthConfig {
        path: path.clone(),
        interval: span(raw.interval, 2),
        timeout: span(raw.timeout, 2),
        down_after: raw.down_after.unwrap_or(2).max(1),
        up_after: raw.up_after.unwrap_or(1).max(1),
    })
}

fn routes(faults: &mut Faults<'_>, pools: &[PoolConfig], raw: Vec<RawRoute>) -> Vec<Route> {
    if raw.len() > ROUTES_MAX {
        let problem = format!("has {} rules", raw.len());
        faults.whole_file("routes", problem, &format!("at most {ROUTES_MAX} are possible"));
        return Vec::new();
    }
    let mut routes = Vec::with_capacity(raw.len());
    for raw in raw {
        if let Some(route) = route(faults, pools, routes.len(), raw) {
            routes.push(route);
        }
    }
    routes
}

fn route(
    faults: &mut Faults<'_>,
    pools: &[PoolConfig],
    index: usize,
    raw: RawRoute,
) -> Option<Route> {
    let pattern = match Pattern::parse(&raw.pattern.value) {
        Ok(pattern) => pattern,
        Err(wrong) => {
            faults.at(&raw.pattern, "match", wrong.problem, wrong.mend);
            return None;
        }
    };
    let methods = methods(faults, raw.methods.as_deref())?;
    let target = target(faults, pools, &raw)?;
    let key = match target {
        Target::Deny => None,
        Target::Pool(pool) => raw.key.map(key_kind).or(match pools[pool].balance {
            Balance::Hash(kind) => Some(kind),
            _ => None,
        }),
    };
    if key == Some(KeyKind::Room) && pattern.room.is_none() {
        let problem = "sticks by room, but no segment is named (?<room>…)".to_owned();
        let mend = "write (?<room>[^/]+) where the room id stands, or give the rule another `key`";
        faults.at(&raw.pattern, "match", problem, Some(mend.to_owned()));
        return None;
    }
    Some(Route {
        index,
        line: raw.pattern.referenced.line(),
        pattern,
        methods,
        if_query: raw.if_query.iter().map(|text| Predicate::parse(text)).collect(),
        unless_query: raw.unless_query.iter().map(|text| Predicate::parse(text)).collect(),
        if_header: raw.if_header.iter().map(|text| Predicate::parse(text)).collect(),
        target,
        key,
        long_poll: raw.long_poll,
        retry: if raw.retry == RawRetry::Never { Retry::Never } else { Retry::Safe },
        body_bytes: raw.body_bytes.map(|size| size.0),
    })
}

fn methods(faults: &mut Faults<'_>, raw: Option<&[Spanned<String>]>) -> Option<Methods> {
    let Some(raw) = raw else { return Some(Methods::ALL) };
    let mut methods = Methods::NONE;
    for text in raw {
        match Method::from_name(&text.value) {
            Some(method) => methods = methods.with(method),
            None => {
                let mend = nearest(&text.value.to_uppercase(), Method::NAMES)
                    .map(|near| format!("did you mean `{near}`?"));
                faults.at(text, "methods", format!("`{}` is not a method", text.value), mend);
                return None;
            }
        }
    }
    Some(methods)
}

fn target(faults: &mut Faults<'_>, pools: &[PoolConfig], raw: &RawRoute) -> Option<Target> {
    match (&raw.pool, raw.deny) {
        (None, true) => Some(Target::Deny),
        (Some(name), false) => match pools.iter().position(|pool| pool.name == name.value) {
            Some(pool) => Some(Target::Pool(pool)),
            None => {
                let near = nearest(&name.value, pools.iter().map(|pool| pool.name.as_str()));
                let mend = near.map(|near| format!("did you mean `{near}`?"));
                faults.at(name, "pool", format!("`{}` is not one of the pools", name.value), mend);
                None
            }
        },
        (None, false) => {
            let problem = "says neither `pool` nor `deny`".to_owned();
            faults.at(&raw.pattern, "match", problem, Some("add `pool: <name>`".to_owned()));
            None
        }
        (Some(name), true) => {
            let problem = "says both `pool` and `deny`".to_owned();
            faults.at(name, "pool", problem, Some("keep one of the two".to_owned()));
            None
        }
    }
}
