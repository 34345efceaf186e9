//! Proof that a routes file and the endpoints of the server fit: every endpoint has a route, it is
//! the same whatever a client writes into the path, and no rule is dead.

use std::fmt;

use crate::admin::explain::describe;
use crate::config::{Config, ConfigError};
use crate::pipeline::active_config::ActiveConfig;
use crate::routing::routes::{Method, Target};
use crate::routing::table::{RequestFacts, RuleMatch, Table};

/// What is put in place of `{arguments}`: ordinary ids, and values chosen to look like other
/// routes.
const ARGUMENTS: [&str; 8] = [
    "%21room%3Aexample.org",
    "!room:example.org",
    "@user:example.org",
    "m.room.message",
    "typing",
    "send",
    "sync",
    "%2F",
];

/// Something wrong between routes and endpoints.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// What it is about: an endpoint or a rule.
    pub subject: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.problem)
    }
}

/// Checks a config against the endpoints the server mounts, given as method and path template
/// (`/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}`).
///
/// # Errors
/// [`ConfigError`] if the config cannot be compiled at all.
pub fn check(config: &Config, endpoints: &[(String, String)]) -> Result<Vec<Problem>, ConfigError> {
    let live = ActiveConfig::build(config.clone(), None, 0)?;
    Ok(check_live(&live, endpoints))
}

/// Checks what is in force against the endpoints of a server.
pub(crate) fn check_live(live: &ActiveConfig, endpoints: &[(String, String)]) -> Vec<Problem> {
    let config = &live.config;
    let mut problems = Vec::new();
    for (method, template) in endpoints {
        if let Some(problem) = endpoint(&live.table, method, template) {
            problems.push(Problem { subject: format!("{method} {template}"), problem });
        }
    }
    for route in live.table.unreachable() {
        problems.push(Problem {
            subject: format!("{}:{}: {}", config.name, route.line, describe(config, route)),
            problem: "no request can reach this rule, earlier ones take them all".to_owned(),
        });
    }
    for (place, pool) in config.pools.iter().enumerate() {
        if !config.routes.iter().any(|route| route.target == Target::Pool(place)) {
            problems.push(Problem {
                subject: format!("{}: pool {}", config.name, pool.name),
                problem: "no rule leads to it".to_owned(),
            });
        }
    }
    problems
}

/// What is wrong with the routing of one endpoint.
fn endpoint(table: &Table, method: &str, template: &str) -> Option<String> {
    let mut first: Option<Option<Target>> = None;
    for path in examples(template) {
        let asked =
            RequestFacts { method: Method::of(method), path: &path, query: "", header: &|_| None };
        let target = match table.find(&asked) {
            RuleMatch::Rule(route) => Some(route.target),
            RuleMatch::WrongMethod(_) | RuleMatch::Nothing => None,
        };
        match (first, target) {
            (_, None) => return Some(format!("no rule takes {path}")),
            (_, Some(Target::Deny)) => return Some(format!("{path} is denied")),
            (Some(before), now) if before != now => {
                return Some(format!("what stands in the path changes its pool, see {path}"));
            }
            _ => first = Some(target),
        }
    }
    None
}

/// Paths of an endpoint: all arguments the same example, then each alone different.
fn examples(template: &str) -> Vec<String> {
    let fill = |values: &mut dyn FnMut(usize) -> &'static str| {
        let mut count = 0;
        let segments = template.split('/').map(|segment| {
            if !segment.starts_with('{') {
                return segment.to_owned();
            }
            count += 1;
            values(count - 1).to_owned()
        });
        segments.collect::<Vec<_>>().join("/")
    };
    let arguments = template.matches('{').count();
    let mut paths: Vec<String> = ARGUMENTS.iter().map(|value| fill(&mut |_| value)).collect();
    for odd in 0..arguments {
        for value in ARGUMENTS {
            paths.push(fill(&mut |at| if at == odd { value } else { ARGUMENTS[0] }));
        }
    }
    paths.dedup();
    paths
}

/// Parses a list of endpoints: `METHOD /path/{argument}` on each line, `#` begins a comment.
pub fn parse_endpoints(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
