//! Servers and their locations: which become rules that pass on, which become rules that deny.

use super::access::{Closed, Meaning, meaning};
use super::importer::{Importer, Rule, Server, Upstream, pool_name};
use super::nginx::Directive;
use super::patterns::Place;

/// The pattern of all paths.
const EVERYTHING: &str = "^/.*$";

impl Importer {
    /// Finds the servers, and what is around them.
    pub(super) fn blocks(&mut self, directives: &[Directive], outer: &Closed) {
        let closed = outer.around(directives);
        let is_place = |directive: &&Directive| directive.name() == "location";
        if directives.iter().any(|directive| is_place(&directive)) {
            let line = directives.first().map_or(0, |directive| directive.line);
            self.servers.push(Server {
                directives: directives.to_vec(),
                closed: outer.clone(),
                line,
            });
            return;
        }
        for directive in directives {
            match (directive.name(), &directive.block) {
                ("http", Some(block)) => self.blocks(block, &closed),
                ("server", Some(block)) => {
                    let (directives, line) = (block.clone(), directive.line);
                    self.servers.push(Server { directives, closed: closed.clone(), line });
                }
                ("stream" | "mail", Some(_)) => {
                    let text = format!("`{}` is left out: it is no HTTP", directive.name());
                    self.note(directive.line, text);
                }
                ("include", _) => {
                    let text = format!(
                        "`{}`: what stands there is not seen; `nginx -T` prints the whole",
                        directive.words.join(" ")
                    );
                    self.note(directive.line, text);
                }
                (
                    "listen" | "client_max_body_size" | "ssl_certificate" | "ssl_certificate_key",
                    _,
                ) => {
                    self.server_directive(directive);
                }
                _ => self.name_left_out(directive),
            }
        }
    }

    /// Carries one server over. All listeners of a gateway have the same rules: what another server passes on
    /// would be open to whoever reaches this one.
    pub(super) fn server_blocks(&mut self) {
        let servers = std::mem::take(&mut self.servers);
        let mut taken: Option<&Server> = None;
        for server in &servers {
            if !server.passes_on() && servers.iter().any(Server::passes_on) {
                let text = "this server passes nothing on, and is left out with its listeners";
                self.note(server.line, text);
                server.directives.iter().for_each(|directive| self.name_left_out(directive));
                continue;
            }
            match taken {
                None => taken = Some(server),
                Some(first) if first.meaning() == server.meaning() => {}
                Some(_) => {
                    let text = "this server is left out with its listeners, since every listener has every \
                                rule: import it by itself";
                    self.note(server.line, text);
                    continue;
                }
            }
            self.server(server);
        }
    }

    fn server(&mut self, server: &Server) {
        let mut certificate = (None, None);
        let closed = server.closed.within(&server.directives);
        if let Some(by) = closed.by() {
            self.note(
                server.line,
                format!("{by}: every location of this server stays closed to all"),
            );
        }
        for directive in &server.directives {
            let first = directive.words.get(1).cloned();
            match (directive.name(), &directive.block) {
                ("location", Some(block)) => self.location(directive, block, &closed),
                ("ssl_certificate", _) => certificate.0 = first,
                ("ssl_certificate_key", _) => certificate.1 = first,
                ("server" | "http", Some(_)) => {
                    self.note(directive.line, "a server beside locations is left out");
                }
                ("listen", _) => {}
                _ => self.server_directive(directive),
            }
        }
        for listen in server.directives.iter().filter(|directive| directive.name() == "listen") {
            self.listener(listen, &certificate);
        }
    }

    fn server_directive(&mut self, directive: &Directive) {
        match directive.name() {
            "client_max_body_size" => self.body = directive.words.get(1).cloned(),
            "listen" | "ssl_certificate" | "ssl_certificate_key" => {}
            _ => self.name_left_out(directive),
        }
    }

    /// Names a directive that is not translated.
    fn name_left_out(&mut self, directive: &Directive) {
        let words = directive.words.join(" ");
        match meaning(directive) {
            Meaning::IdleConnections => {}
            Meaning::LeftOut => self.note(directive.line, format!("`{words}` is left out")),
            Meaning::Closes => {
                self.note(directive.line, format!("`{words}` has no counterpart here"));
            }
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

    fn location(&mut self, directive: &Directive, block: &[Directive], outer: &Closed) {
        let words: Vec<&str> = directive.words[1..].iter().map(String::as_str).collect();
        let words = apart(words);
        let (class, place, length) = match words[..] {
            ["=", path] => (0, Some(Place::Exact(path)), 0),
            ["^~", path] => (1, Some(Place::Prefix(path)), path.len()),
            ["~", regex] => (2, Some(Place::Regex { regex, any_case: false }), 0),
            ["~*", regex] => (2, Some(Place::Regex { regex, any_case: true }), 0),
            [path] if path.starts_with('@') => {
                return self.note(directive.line, format!("location {path} is left out"));
            }
            [path] => (3, Some(Place::Prefix(path)), path.len()),
            _ => (0, None, 0),
        };
        let name = words.join(" ");
        let closed = outer.within(block);
        let mut targets = None;
        let mut pattern_within = None;
        for inner in block {
            match (inner.name(), &inner.block) {
                ("proxy_pass", _) => targets = self.targets(inner, words.last().unwrap_or(&"")),
                ("location", Some(deeper)) => {
                    match inner.words.get(1).is_some_and(|word| word.starts_with('~')) {
                        true => pattern_within = Some(inner.words.join(" ")),
                        false => self.location(inner, deeper, &closed),
                    }
                }
                ("client_max_body_size", _) => {
                    self.note(inner.line, "its body limit: set `body_bytes` on the rule");
                }
                _ => self.name_left_out(inner),
            }
        }
        let shut = match (closed.by(), pattern_within, &targets) {
            (Some(by), ..) => Some(format!("is closed by {by}: it stays so, to all")),
            (_, Some(within), _) => {
                Some(format!("has `{within}` within: it is denied, write its rules by hand"))
            }
            (.., None) => Some("is one without proxy_pass: it is denied".to_owned()),
            (.., Some(_)) => None,
        };
        if let Some(why) = shut {
            self.note(directive.line, format!("location {name} {why}"));
            targets = Some(vec![(None, None)]);
        }
        let denies = targets.as_ref().is_some_and(|targets| targets == &[(None, None)]);
        let pattern = match place {
            Some(place) if denies => place.denying(),
            Some(place) => Some(place.passing()),
            None => None,
        };
        let Some(pattern) = pattern else {
            let text =
                format!("location {name} cannot be read: everything is denied until it is mended");
            self.note(directive.line, text);
            let targets = vec![(None, None)];
            return self.rules.push(Rule {
                class: 0,
                length: 0,
                pattern: EVERYTHING.to_owned(),
                targets,
            });
        };
        let known = |rule: &Rule| rule.class == class && rule.pattern == pattern;
        if let Some(targets) = targets.filter(|_| !self.rules.iter().any(known)) {
            self.rules.push(Rule { class, length, pattern, targets });
        }
    }

    /// Says whether a `proxy_pass` sends the path on as it is.
    fn passes_unchanged(&mut self, target: &str, pass: &Directive, location: &str) -> bool {
        let target = target
            .strip_prefix("unix:")
            .map_or(target, |socket| socket.split_once(':').map_or("", |(_, path)| path));
        let path = target.find('/').map_or("", |at| &target[at..]);
        let path = path.trim_end_matches("$request_uri").trim_end_matches("$uri");
        let unchanged = path.is_empty() || path == location || target.starts_with('$');
        if !unchanged {
            let text = format!("`{}` changes the path on its way", pass.words.join(" "));
            self.note(pass.line, text);
        }
        unchanged
    }

    /// Pools of a `proxy_pass`; two when a map chooses by a query parameter.
    fn targets(
        &mut self,
        pass: &Directive,
        location: &str,
    ) -> Option<Vec<(Option<String>, Option<String>)>> {
        let url = pass.words.get(1)?;
        let target = url.trim_start_matches("http://").trim_start_matches("https://");
        if !self.passes_unchanged(target, pass, location) {
            return None;
        }
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
}

/// Splits what says how a location matches from where, if they are written as one word.
fn apart(words: Vec<&str>) -> Vec<&str> {
    let [word] = words[..] else { return words };
    for how in ["=", "^~", "~*", "~"] {
        if let Some(place) = word.strip_prefix(how) {
            return vec![&word[..how.len()], place];
        }
    }
    words
}
