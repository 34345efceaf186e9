//! What has been found in an nginx configuration so far, and the routes file it becomes.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::access::Closed;
use super::nginx::Directive;
use super::patterns::HIDDEN_DOTS;

/// A body limit nginx has when none is written, and an operator may have relied on.
pub(super) const NGINX_BODY_DEFAULT: &str = "1m";

/// What stands for no limit.
pub(super) const NO_BODY_LIMIT: &str = "100g";

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Upstream {
    pub(super) servers: Vec<String>,
    pub(super) balance: String,
}

#[derive(Debug)]
pub(super) struct Rule {
    /// 0 exact, 1 `^~` prefix, 2 regular expression, 3 prefix.
    pub(super) class: u8,
    /// Longer prefixes come first within their class.
    pub(super) length: usize,
    pub(super) pattern: String,
    /// Pool and the query parameter that must be absent; or no pool to deny.
    pub(super) targets: Vec<(Option<String>, Option<String>)>,
}

#[derive(Default)]
pub(super) struct Importer {
    pub(super) upstreams: BTreeMap<String, Upstream>,
    pub(super) maps: BTreeMap<String, (String, Vec<(String, String)>)>,
    pub(super) rules: Vec<Rule>,
    pub(super) listen: Vec<(String, Option<(String, String)>)>,
    pub(super) body: Option<String>,
    pub(super) notes: Vec<Note>,
    pub(super) servers: Vec<Server>,
}

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

/// A server, or locations that stand by themselves.
pub(super) struct Server {
    pub(super) directives: Vec<Directive>,
    /// By what all of it is closed.
    pub(super) closed: Closed,
    pub(super) line: usize,
}

impl Server {
    /// Says whether it passes anything on.
    pub(super) fn passes_on(&self) -> bool {
        passes_on(&self.directives)
    }

    /// What it does, wherever it stands in the file and listens.
    pub(super) fn meaning(&self) -> Vec<String> {
        fn written(directives: &[Directive], out: &mut Vec<String>) {
            for directive in directives {
                if directive.name() != "listen" {
                    out.push(directive.words.join(" "));
                    written(directive.block.as_deref().unwrap_or_default(), out);
                    out.push(String::new());
                }
            }
        }
        let mut out = Vec::new();
        written(&self.directives, &mut out);
        out.push(self.closed.by().unwrap_or_default());
        out
    }
}

pub(super) fn passes_on(directives: &[Directive]) -> bool {
    let inner = |directive: &Directive| directive.block.as_deref().is_some_and(passes_on);
    directives.iter().any(|directive| directive.name() == "proxy_pass" || inner(directive))
}

impl Importer {
    pub(super) fn note(&mut self, line: usize, text: impl Into<String>) {
        let note = Note { line, text: text.into() };
        // Said once, where it stands first.
        if !self.notes.iter().any(|known| known.text == note.text) {
            self.notes.push(note);
        }
    }

    /// Upstreams and maps, wherever they stand.
    pub(super) fn declarations(&mut self, directives: &[Directive]) {
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

    pub(super) fn upstream(&mut self, directive: &Directive, entries: &[Directive]) {
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

    pub(super) fn upstream_server(&mut self, entry: &Directive, upstream: &mut Upstream) {
        let Some(address) = entry.words.get(1) else { return };
        let mut worker = self.address(address, entry.line);
        if entry.words.iter().any(|word| word == "down") {
            return self.note(entry.line, format!("server {address} is `down`, and left out"));
        }
        for option in &entry.words[2..] {
            match option.split_once('=') {
                Some(("weight", _)) => write!(worker, " {option}").unwrap_or_default(),
                Some(("max_fails" | "fail_timeout", _)) => {}
                _ if option == "backup" => {
                    let text = format!(
                        "`backup` of server {address} is left out: it serves like the others"
                    );
                    self.note(entry.line, text);
                }
                _ => self.note(entry.line, format!("`{option}` of server {address} is left out")),
            }
        }
        upstream.servers.push(worker);
    }

    /// An address as ours are written; names of hosts are left for a person.
    pub(super) fn address(&mut self, text: &str, line: usize) -> String {
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
    pub(super) fn key_kind(&mut self, key: &str, line: usize) -> &'static str {
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

    pub(super) fn write(&mut self, name: &str) -> String {
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
        // nginx has no limit then; more than anybody uploads is as good.
        let body = if body == "0" { NO_BODY_LIMIT.to_owned() } else { body };
        let body = body.to_uppercase().replace('G', "GiB");
        lines.push(format!("limits: {{ body_bytes: {body} }}"));
        lines.extend([String::new(), "pools:".to_owned()]);
        for (pool, upstream) in &self.upstreams {
            let servers: Vec<String> =
                upstream.servers.iter().map(|server| quoted(server)).collect();
            let (balance, servers) = (&upstream.balance, servers.join(", "));
            lines.push(format!("  {pool}: {{ balance: {balance}, workers: [{servers}] }}"));
        }
        lines.extend([String::new(), "routes:".to_owned()]);
        let rules = std::mem::take(&mut self.rules);
        let denies = |rule: &Rule| rule.targets.iter().any(|(pool, _)| pool.is_none());
        if rules.iter().any(denies) {
            let text =
                "paths with `..` between escaped slashes are denied: nginx would resolve them";
            self.note(0, text);
            lines.push(format!("  - {{ match: {}, deny: true }}", quoted(HIDDEN_DOTS)));
        }
        for rule in &rules {
            for (pool, absent) in &rule.targets {
                lines.push(self.rule_line(rule, pool.as_deref(), absent.as_deref()));
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    pub(super) fn rule_line(
        &mut self,
        rule: &Rule,
        pool: Option<&str>,
        absent: Option<&str>,
    ) -> String {
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

/// Names the segment behind `/rooms/` as the key.
pub(super) fn with_room(pattern: &str) -> Option<String> {
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

pub(super) fn pool_name(upstream: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = upstream.chars().map(plain).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("at_{name}") } else { name }
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
