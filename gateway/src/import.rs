//! From an nginx configuration of the usual Matrix shape to a routes file, and a list of what could
//! not be carried over. Text in, text out; the result is parsed before it is given out.
//!
//! nginx looks for exact locations, then `^~` prefixes, then regular expressions in file order,
//! then the longest prefix: rules are written in that order. Its patterns may match anywhere in
//! the path; ours take the whole path, so `^`, `$` and what they need are added.

mod nginx;

use std::collections::BTreeMap;
use std::fmt::Write;

use nginx::Directive;
pub use nginx::SyntaxError;

use crate::config::Config;

/// A body limit nginx has when none is written, and an operator may have relied on.
const NGINX_BODY_DEFAULT: &str = "1m";

/// Something a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The line in the nginx file; 0 for the file as a whole.
    pub line: usize,
    /// What to look at.
    pub text: String,
}

/// What came out of an nginx configuration.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The routes file.
    pub routes: String,
    /// What could not be carried over, or was changed on the way.
    pub notes: Vec<Note>,
}

#[derive(Debug, Clone, PartialEq)]
struct Upstream {
    servers: Vec<String>,
    balance: String,
}

#[derive(Debug)]
struct Rule {
    /// 0 exact, 1 `^~` prefix, 2 regular expression, 3 prefix.
    class: u8,
    /// Longer prefixes come first within their class.
    length: usize,
    pattern: String,
    /// Pool and the query parameter that must be absent; or no pool to deny.
    targets: Vec<(Option<String>, Option<String>)>,
}

#[derive(Default)]
struct Importer {
    upstreams: BTreeMap<String, Upstream>,
    maps: BTreeMap<String, (String, Vec<(String, String)>)>,
    rules: Vec<Rule>,
    listen: Vec<(String, Option<(String, String)>)>,
    body: Option<String>,
    notes: Vec<Note>,
}

/// Translates an nginx configuration.
///
/// # Errors
/// [`SyntaxError`] if it is not one.
pub fn import_nginx(name: &str, text: &str) -> Result<Imported, SyntaxError> {
    let directives = nginx::parse(text)?;
    let mut importer = Importer::default();
    importer.declarations(&directives);
    importer.servers(&directives);
    let routes = importer.write(name);
    if let Err(error) = Config::parse("imported", &routes) {
        for fault in error.faults() {
            importer.note(0, format!("the result needs a hand: {fault}"));
        }
    }
    Ok(Imported { routes, notes: importer.notes })
}

impl Importer {
    fn note(&mut self, line: usize, text: impl Into<String>) {
        let note = Note { line, text: text.into() };
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Upstreams and maps, wherever they stand.
    fn declarations(&mut self, directives: &[Directive]) {
        for directive in directives {
            match (directive.name(), &directive.block) {
                ("map", Some(entries)) if directive.words.len() == 3 => {
                    let pairs = entries.iter().filter(|entry| entry.words.len() == 2);
                    let pairs = pairs.map(|e| (e.words[0].clone(), e.words[1].clone())).collect();
                    let (from, to) = (directive.words[1].clone(), directive.words[2].clone());
                    self.maps.insert(to, (from, pairs));
                }
                ("upstream", Some(entries)) => self.upstream(directive, entries),
                (_, Some(block)) => self.declarations(block),
                _ => {}
            }
        }
    }

    fn upstream(&mut self, directive: &Directive, entries: &[Directive]) {
        let Some(name) = directive.words.get(1) else { return };
        let mut upstream = Upstream { servers: Vec::new(), balance: "round_robin".to_owned() };
        for entry in entries {
            match entry.name() {
                "server" => self.upstream_server(entry, &mut upstream),
                "least_conn" => upstream.balance = "least_conn".to_owned(),
                "ip_hash" => upstream.balance = "{ hash: source_ip }".to_owned(),
                "hash" => {
                    let key = entry.words.get(1).cloned().unwrap_or_default();
                    upstream.balance = format!("{{ hash: {} }}", self.key_kind(&key, entry.line));
                    if !entry.words.iter().any(|word| word == "consistent") {
                        let text = format!("`{name}` hashes consistently now: most keys move once");
                        self.note(entry.line, text);
                    }
                }
                "keepalive" | "keepalive_timeout" | "keepalive_requests" | "zone" => {}
                other => {
                    self.note(
                        entry.line,
                        format!("`{other}` in upstream `{name}` has no counterpart"),
                    );
                }
            }
        }
        if upstream.servers.len() == 1 && upstream.balance == "round_robin" {
            upstream.balance = "single".to_owned();
        }
        self.upstreams.insert(pool_name(name), upstream);
    }

    fn upstream_server(&mut self, entry: &Directive, upstream: &mut Upstream) {
        let Some(address) = entry.words.get(1) else { return };
        let mut worker = self.address(address, entry.line);
        for option in &entry.words[2..] {
            match option.split_once('=') {
                Some(("weight", _)) => write!(worker, " {option}").unwrap_or_default(),
                Some(("max_fails" | "fail_timeout", _)) => {}
                _ => self.note(entry.line, format!("`{option}` of server {address} is left out")),
            }
        }
        upstream.servers.push(worker);
    }

    /// An address as ours are written; names of hosts are left for a person.
    fn address(&mut self, text: &str, line: usize) -> String {
        let text = text.trim_end_matches('/').replace("localhost", "127.0.0.1");
        if text.starts_with("unix:") {
            return text.trim_end_matches(':').to_owned();
        }
        let text = if text.contains(':') { text } else { format!("{text}:80") };
        if text.parse::<std::net::SocketAddr>().is_err() {
            self.note(line, format!("`{text}` is a name: write the address it stands for"));
        }
        text
    }

    /// What a hash key stands for, looking through maps.
    fn key_kind(&mut self, key: &str, line: usize) -> &'static str {
        let mut seen = key.to_owned();
        let mut source = key.to_owned();
        while let Some((from, pairs)) = self.maps.get(&source).filter(|_| seen.len() < 10_000) {
            seen.push_str(from);
            pairs.iter().for_each(|(pattern, _)| seen.push_str(pattern));
            source = from.clone();
        }
        let has = |words: &[&str]| words.iter().any(|word| seen.contains(word));
        if has(&["room", "%21"]) {
            "room"
        } else if has(&["authorization", "access_token", "mxid", "user"]) {
            "user"
        } else if has(&["remote_addr", "x_forwarded_for", "realip"]) {
            "source_ip"
        } else {
            self.note(line, format!("what `{key}` hashes by is unclear: the address is taken"));
            "source_ip"
        }
    }

    fn servers(&mut self, directives: &[Directive]) {
        let mut certificate = (None, None);
        let mut listens = Vec::new();
        for directive in directives {
            let first = directive.words.get(1).map_or("", String::as_str);
            match (directive.name(), &directive.block) {
                ("location", Some(block)) => self.location(directive, block),
                ("map" | "upstream" | "events" | "types", _) => {}
                ("http" | "server" | "stream", Some(block)) => self.servers(block),
                ("listen", _) => listens.push(directive),
                ("ssl_certificate", _) => certificate.0 = Some(first.to_owned()),
                ("ssl_certificate_key", _) => certificate.1 = Some(first.to_owned()),
                ("client_max_body_size", _) => self.body = Some(first.to_owned()),
                (
                    "if" | "rewrite" | "return" | "error_page" | "auth_basic" | "allow" | "deny",
                    _,
                ) => {
                    let text = format!("`{}` has no counterpart here", directive.words.join(" "));
                    self.note(directive.line, text);
                }
                _ => {}
            }
        }
        for listen in listens {
            self.listener(listen, &certificate);
        }
    }

    fn listener(&mut self, listen: &Directive, certificate: &(Option<String>, Option<String>)) {
        let Some(address) = listen.words.get(1) else { return };
        let encrypted = listen.words.iter().any(|word| word == "ssl");
        let bind = match address.parse::<u16>() {
            Ok(port) => format!("0.0.0.0:{port}"),
            Err(_) => address.replace('*', "0.0.0.0"),
        };
        let tls = match certificate {
            (Some(cert), Some(key)) if encrypted => Some((cert.clone(), key.clone())),
            _ if encrypted => {
                let text =
                    format!("listener {bind} is encrypted, but its certificate is elsewhere");
                return self.note(listen.line, text);
            }
            _ => None,
        };
        if !self.listen.iter().any(|(known, _)| *known == bind) {
            self.listen.push((bind, tls));
        }
    }

    fn location(&mut self, directive: &Directive, block: &[Directive]) {
        let words: Vec<&str> = directive.words[1..].iter().map(String::as_str).collect();
        let (class, pattern, length) = match words[..] {
            ["=", path] => (0, format!("^{}$", regex::escape(path)), 0),
            ["^~", path] => (1, format!("^{}.*$", regex::escape(path)), path.len()),
            ["~", regex] => (2, whole(regex), 0),
            ["~*", regex] => (2, format!("(?i){}", whole(regex)), 0),
            [path] if path.starts_with('@') => {
                return self.note(directive.line, format!("location {path} is left out"));
            }
            [path] => (3, format!("^{}.*$", regex::escape(path)), path.len()),
            _ => return self.note(directive.line, "a location that cannot be read"),
        };
        let mut targets = None;
        for inner in block {
            match inner.name() {
                "proxy_pass" => targets = self.targets(inner),
                "return" => targets = Some(vec![(None, None)]),
                "location" | "if" | "rewrite" | "root" | "alias" | "try_files" | "limit_except"
                | "auth_basic" | "allow" | "deny" | "add_header" => {
                    let text = format!("`{}` in a location is left out", inner.words.join(" "));
                    self.note(inner.line, text);
                }
                "client_max_body_size" => {
                    self.note(inner.line, "its body limit: set `body_bytes` on the rule");
                }
                _ => {}
            }
        }
        let Some(targets) = targets else {
            return self.note(directive.line, "a location without proxy_pass is left out");
        };
        let known = |rule: &Rule| rule.class == class && rule.pattern == pattern;
        if !self.rules.iter().any(known) {
            self.rules.push(Rule { class, length, pattern, targets });
        }
    }

    /// Pools of a `proxy_pass`; two when a map chooses by a query parameter.
    fn targets(&mut self, pass: &Directive) -> Option<Vec<(Option<String>, Option<String>)>> {
        let url = pass.words.get(1)?;
        let target = url.trim_start_matches("http://").trim_start_matches("https://");
        if url.starts_with("https://") {
            self.note(pass.line, format!("{url}: workers are reached without TLS"));
        }
        if target.starts_with('$') {
            let variable = target.trim_end_matches('/');
            let Some((from, pairs)) = self.maps.get(variable) else {
                self.note(pass.line, format!("what `{variable}` stands for is not in this file"));
                return None;
            };
            let value = |wanted: &str| pairs.iter().find(|(p, _)| p == wanted).map(|(_, v)| v);
            let parameter = from.strip_prefix("$arg_");
            if let (Some(parameter), Some(absent), Some(present), 2) =
                (parameter, value(""), value("default"), pairs.len())
            {
                return Some(vec![
                    (Some(pool_name(absent)), Some(parameter.to_owned())),
                    (Some(pool_name(present)), None),
                ]);
            }
            self.note(pass.line, format!("the map behind `{variable}` cannot be carried over"));
            return None;
        }
        let host = match target.strip_prefix("unix:") {
            Some(path) => format!("unix:{}", path.split(':').next().unwrap_or(path)),
            None => target.split('/').next().unwrap_or(target).split('$').next()?.to_owned(),
        };
        let name = pool_name(&host);
        if !self.upstreams.contains_key(&name) {
            let server = self.address(&host, pass.line);
            let balance = "single".to_owned();
            self.upstreams.insert(name.clone(), Upstream { servers: vec![server], balance });
        }
        Some(vec![(Some(name), None)])
    }

    fn write(&mut self, name: &str) -> String {
        // Stable, so that regular expressions keep their order.
        self.rules.sort_by_key(|rule| (rule.class, std::cmp::Reverse(rule.length)));
        let mut lines =
            vec![format!("# Imported from {name}; look at the notes before use."), String::new()];
        lines.push("listen:".to_owned());
        if self.listen.is_empty() {
            lines.push("  - { name: public, bind: \"127.0.0.1:8008\" }".to_owned());
        }
        for (place, (bind, tls)) in self.listen.iter().enumerate() {
            let tls = tls.as_ref().map_or_else(String::new, |(cert, key)| {
                let (cert, key) = (quoted(cert), quoted(key));
                format!(", tls: {{ certificates: [{{ cert: {cert}, key: {key} }}] }}")
            });
            lines.push(format!("  - {{ name: listen{place}, bind: {}{tls} }}", quoted(bind)));
        }
        lines.push("admin: \"127.0.0.1:8009\"".to_owned());
        lines.push("trusted_proxies: [\"127.0.0.0/8\", \"::1/128\"]".to_owned());
        let body = self.body.clone().unwrap_or_else(|| NGINX_BODY_DEFAULT.to_owned());
        lines.push(format!("limits: {{ body_bytes: {} }}", body.to_uppercase()));
        lines.extend([String::new(), "pools:".to_owned()]);
        for (pool, upstream) in &self.upstreams {
            let servers: Vec<String> =
                upstream.servers.iter().map(|server| quoted(server)).collect();
            let (balance, servers) = (&upstream.balance, servers.join(", "));
            lines.push(format!("  {pool}: {{ balance: {balance}, workers: [{servers}] }}"));
        }
        lines.extend([String::new(), "routes:".to_owned()]);
        let rules = std::mem::take(&mut self.rules);
        for rule in &rules {
            for (pool, absent) in &rule.targets {
                lines.push(self.rule_line(rule, pool.as_deref(), absent.as_deref()));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn rule_line(&mut self, rule: &Rule, pool: Option<&str>, absent: Option<&str>) -> String {
        let Some(pool) = pool else {
            return format!("  - {{ match: {}, deny: true }}", quoted(&rule.pattern));
        };
        let by_room = self.upstreams.get(pool).is_some_and(|u| u.balance == "{ hash: room }");
        let mut pattern = rule.pattern.clone();
        let mut key = "";
        if by_room {
            match with_room(&pattern) {
                Some(named) => pattern = named,
                None => {
                    key = ", key: user";
                    let text = format!("{pattern}: no room in sight, so it sticks by user");
                    self.note(0, text);
                }
            }
        }
        let unless = absent.map_or_else(String::new, |name| format!(", unless_query: [{name}]"));
        format!("  - {{ match: {}{unless}, pool: {pool}{key} }}", quoted(&pattern))
    }
}

/// A pattern that takes the whole path where nginx's takes part of it.
fn whole(regex: &str) -> String {
    let regex = regex.replace("\\/", "/");
    let begin = if regex.starts_with('^') { "" } else { "^.*" };
    let ends = regex.ends_with('$') && !regex.ends_with("\\$");
    // An alternation at the top would escape what is added around it.
    let (open, close) = if regex.contains('|') && !ends { ("(?:", ")") } else { ("", "") };
    let inner = regex.trim_start_matches('^');
    let start = if regex.starts_with('^') { "^" } else { begin };
    format!("{start}{open}{inner}{close}{}", if ends { "" } else { ".*$" })
}

/// Names the segment behind `/rooms/` as the key.
fn with_room(pattern: &str) -> Option<String> {
    const SEGMENT: &str = "(?<room>[^/]+)";
    for any in ["[^/]+", "[^/]*", ".*?", ".*", ".+"] {
        for before in ["rooms/", "join/", "knock/"] {
            let found = format!("{before}{any}");
            let Some(at) = pattern.find(&found) else { continue };
            let rest = &pattern[at + found.len()..];
            // The end of a prefix pattern: the room, and whatever follows it.
            let rest = if rest == "$" && any.starts_with('.') { "(/.*)?$" } else { rest };
            return Some(format!("{}{before}{SEGMENT}{rest}", &pattern[..at]));
        }
    }
    None
}

fn pool_name(upstream: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = upstream.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("at_{name}") } else { name }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests;
