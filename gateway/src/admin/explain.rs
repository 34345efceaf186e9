//! What becomes of one request, and why: for a person at a terminal. The same table, keys and pools
//! as the gateway uses; nothing is decided anew here.

use std::fmt;
use std::net::IpAddr;

use crate::config::{Config, ConfigError};
use crate::pipeline::active_config::ActiveConfig;
use crate::pipeline::reply;
use crate::routing::request_target::Target as RequestTarget;
use crate::routing::routes::{KeyKind, Method, Route, Target};
use crate::routing::sticky::{self, KeySources};
use crate::routing::table::{RequestFacts, RuleMatch};
use crate::upstream::pools::Pool;

/// What becomes of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Explanation {
    /// What carries it there: the engine of all listeners, or that of each by name; empty where a gateway
    /// answers that had but one.
    #[serde(default)]
    pub engine: String,
    /// The rule that takes it, as it stands in the file.
    pub rule: Option<String>,
    /// The rule's line in the file.
    pub line: Option<u64>,
    /// The pool it goes to.
    pub pool: Option<String>,
    /// The key it sticks by, decoded.
    pub key: Option<String>,
    /// The worker it meets while all are healthy and idle.
    pub worker: Option<String>,
    /// Why, in sentences.
    pub why: Vec<String>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let none = || "-".to_owned();
        let line = self.line.map_or_else(String::new, |line| format!(" (line {line})"));
        writeln!(f, "rule    {}{line}", self.rule.clone().unwrap_or_else(none))?;
        writeln!(f, "pool    {}", self.pool.clone().unwrap_or_else(none))?;
        writeln!(f, "key     {}", self.key.clone().unwrap_or_else(none))?;
        writeln!(f, "worker  {}", self.worker.clone().unwrap_or_else(none))?;
        if !self.engine.is_empty() {
            writeln!(f, "engine  {}", self.engine)?;
        }
        for why in &self.why {
            writeln!(f, "  {why}")?;
        }
        Ok(())
    }
}

/// Every rule of a config on a line of its own, in file order, with the line it stands in.
pub fn rule_lines(config: &Config) -> Vec<String> {
    let line = |route: &Route| format!("{:>5}  {}", route.line, describe(config, route));
    config.routes.iter().map(line).collect()
}

/// One rule on one line, for reports.
pub(crate) fn describe(config: &Config, route: &Route) -> String {
    let target = match route.target {
        Target::Pool(place) => config.pools[place].name.as_str(),
        Target::Deny => "deny",
    };
    let mut text =
        format!("{} {} → {target}", route.methods.names().join(","), route.pattern.as_str());
    for (word, predicates) in [
        ("if", &route.if_query),
        ("unless", &route.unless_query),
        ("with header", &route.if_header),
    ] {
        for predicate in predicates {
            let value = predicate.value.as_ref().map(|v| format!("={v}")).unwrap_or_default();
            text.push_str(&format!(" {word} {}{value}", predicate.name));
        }
    }
    if let Some(key) = route.key {
        text.push_str(&format!(" by {}", key_name(key)));
    }
    text
}

fn key_name(key: KeyKind) -> &'static str {
    match key {
        KeyKind::Room => "room",
        KeyKind::User => "user",
        KeyKind::SourceIp => "source ip",
        KeyKind::Origin => "origin server",
    }
}

/// Says what becomes of a request under a config.
///
/// # Errors
/// [`ConfigError`] if the config cannot be compiled.
pub fn explain(
    config: &Config,
    method: &str,
    path_and_query: &str,
    token: Option<&str>,
    ip: Option<IpAddr>,
) -> Result<Explanation, ConfigError> {
    let live = ActiveConfig::build(config.clone(), None, 0)?;
    Ok(explain_live(&live, method, path_and_query, token, ip, 0))
}

/// Says what becomes of a request under what is in force.
pub(crate) fn explain_live(
    live: &ActiveConfig,
    method: &str,
    path_and_query: &str,
    token: Option<&str>,
    ip: Option<IpAddr>,
    now_ms: u64,
) -> Explanation {
    let mut explained = Explanation { engine: engines(&live.config), ..Explanation::default() };
    if live.config.cors && method == "OPTIONS" {
        explained.why.push("preflights are answered at the door, whatever the path".to_owned());
        return explained;
    }
    let asks = match RequestTarget::parse(path_and_query.as_bytes()) {
        Ok(asks) => asks,
        Err(error) => {
            let reply = crate::pipeline::reply::Reply::from(error);
            explained.why.push(format!("it is refused: {}, {}", reply.status, reply.error));
            return explained;
        }
    };
    let (path, query) = (asks.path(), asks.query());
    let asked = RequestFacts { method: Method::of(method), path, query, header: &|_| None };
    let route = match live.table.find(&asked) {
        RuleMatch::Rule(route) => route,
        RuleMatch::WrongMethod(_) => {
            let status = reply::WRONG_METHOD.status;
            explained.why.push(format!("rules match the path, none with {method}: {status}"));
            return explained;
        }
        RuleMatch::Nothing => {
            explained.why.push(format!("no rule matches: {}", reply::UNKNOWN_PATH.status));
            return explained;
        }
    };
    explained.rule = Some(describe(&live.config, route));
    explained.line = Some(route.line);
    explained.why.push("it is the first rule in file order that takes the request".to_owned());
    let Target::Pool(place) = route.target else {
        explained.why.push(format!("the rule denies it: {}", reply::UNKNOWN_PATH.status));
        return explained;
    };
    let pool = &live.pools[place];
    explained.pool = Some(pool.name.clone());
    let bearer = token.map(|token| format!("Bearer {token}"));
    let client = ip.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    let clues = KeySources { path, query, authorization: bearer.as_deref(), client };
    let key = sticky::key(route, &clues);
    match (route.key, &key) {
        (None, _) => explained.why.push(format!("pool {} sticks by nothing", pool.name)),
        (Some(kind), Some(_)) => explained.why.push(format!("it sticks by {}", key_name(kind))),
        (Some(kind), None) => explained.why.push(format!(
            "it would stick by {}, but carries none: the least loaded worker takes it",
            key_name(kind)
        )),
    }
    if let Some(asked) = live.config.whoami.filter(|_| sticky::unresolved(route, &clues).is_some())
    {
        let asked = &live.pools[asked].name;
        let why = format!("pool {asked} is asked whose the token is; if it tells, that is the key");
        explained.why.push(why);
    }
    explained.key = key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
    explain_worker(&mut explained, live, pool, (route.key, key.as_deref()), now_ms);
    explained
}

/// The engine of all listeners, or that of each where they differ.
fn engines(config: &Config) -> String {
    let differ = config.listen.windows(2).any(|pair| pair[0].engine != pair[1].engine);
    let each = config.listen.iter().map(|listen| match differ {
        true => format!("{} ({})", listen.engine.name(), listen.name),
        false => listen.engine.name().to_owned(),
    });
    let mut each: Vec<String> = each.collect();
    each.dedup();
    each.join(", ")
}

/// Which worker of the pool it is, and why that one.
fn explain_worker(
    explained: &mut Explanation,
    live: &ActiveConfig,
    pool: &Pool,
    (kind, key): (Option<KeyKind>, Option<&[u8]>),
    now_ms: u64,
) {
    let owner = kind.zip(key).and_then(|(kind, key)| pool.owner(kind, key));
    if let Some((slot, place)) = owner {
        let epoch = live.slots.as_ref().map_or(0, |slots| slots.epoch);
        let why = format!("slot {slot} belongs to this worker (slot map of epoch {epoch})");
        explained.why.push(why);
        explained.worker = Some(pool.members[place].name.clone());
        return;
    }
    match pool.choose(key, &[], now_ms) {
        Some(place) => explained.worker = Some(pool.members[place].name.clone()),
        None => explained.why.push(format!("pool {} has no worker that can serve", pool.name)),
    }
}
