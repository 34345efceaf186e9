//! Who may enter a location: directives that close it, wholly or to some, and from where they are inherited.
//! They cannot be carried over, so that what they close stays closed to all; and so does what somebody has
//! written a directive for that nobody here knows.

use super::nginx::Directive;

/// Directives that are read elsewhere.
const TRANSLATED: [&str; 13] = [
    "client_max_body_size",
    "events",
    "http",
    "listen",
    "location",
    "map",
    "proxy_pass",
    "server",
    "ssl_certificate",
    "ssl_certificate_key",
    "stream",
    "types",
    "upstream",
];

/// Directives without which nobody gets in who did not before.
const OPENS_NOTHING: [&str; 37] = [
    "access_log",
    "add_header",
    "aio",
    "alias",
    "auth_basic_user_file",
    "autoindex",
    "charset",
    "daemon",
    "default_type",
    "directio",
    "env",
    "error_log",
    "error_page",
    "etag",
    "expires",
    "geo",
    "http2",
    "index",
    "limit_conn",
    "limit_conn_zone",
    "limit_rate",
    "limit_req",
    "limit_req_zone",
    "load_module",
    "master_process",
    "merge_slashes",
    "more_set_headers",
    "pid",
    "root",
    "server_name",
    "server_tokens",
    "set",
    "set_real_ip_from",
    "split_clients",
    "sub_filter",
    "underscores_in_headers",
    "user",
];

/// Families of such directives, by how they begin.
const FAMILIES: [&str; 20] = [
    "brotli",
    "client_",
    "gzip",
    "http2_",
    "http3",
    "keepalive_",
    "large_client_header",
    "lingering_",
    "log_",
    "map_hash",
    "open_file_cache",
    "proxy_",
    "real_ip_",
    "reset_timedout",
    "resolver",
    "send",
    "server_names_hash",
    "tcp_",
    "types_hash",
    "worker_",
];

/// What only tells how TLS is spoken; `ssl_verify_client` tells to whom.
const TLS: &str = "ssl_";

/// Headers that the gateway sets by itself.
const OWN_HEADERS: [&str; 6] =
    ["connection", "host", "upgrade", "x-forwarded-for", "x-forwarded-proto", "x-request-id"];

/// Files, by the end of their names, in which only values stand.
const VALUES: [&str; 3] = ["mime.types", "_params", "options-ssl-nginx.conf"];

/// Directives that let some in and others not, which a block around others may have.
const CLOSES_ALL_WITHIN: [&str; 8] = [
    "allow",
    "auth_basic",
    "auth_jwt",
    "auth_request",
    "deny",
    "modsecurity",
    "satisfy",
    "ssl_verify_client",
];

/// What a directive means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It is read elsewhere, or the gateway does as much.
    IdleConnections,
    /// It is left out, and opens nothing so.
    LeftOut,
    /// It closes, to some at least; or may, for all we know.
    Closes,
}

/// Says what a directive means.
pub(super) fn meaning(directive: &Directive) -> Meaning {
    let name = directive.name();
    let first = directive.words.get(1).map_or("", String::as_str);
    let own_header = || OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(first));
    match name {
        "proxy_http_version" => Meaning::IdleConnections,
        "proxy_set_header" if own_header() => Meaning::IdleConnections,
        "auth_basic" | "auth_request" | "auth_jwt" | "modsecurity" | "ssl_verify_client"
            if first == "off" =>
        {
            Meaning::IdleConnections
        }
        "satisfy" if first == "all" => Meaning::IdleConnections,
        "include" if VALUES.iter().any(|end| first.ends_with(end)) => Meaning::LeftOut,
        "ssl_verify_client" => Meaning::Closes,
        name if TRANSLATED.contains(&name) => Meaning::IdleConnections,
        name if OPENS_NOTHING.contains(&name) || name.starts_with(TLS) => Meaning::LeftOut,
        name if FAMILIES.iter().any(|family| name.starts_with(family)) => Meaning::LeftOut,
        _ => Meaning::Closes,
    }
}

/// The directives by which a place is closed.
#[derive(Debug, Clone, Default)]
pub(super) struct Closed(Vec<Directive>);

impl Closed {
    /// Those of a block that is no place itself, but has some within.
    pub(super) fn around(&self, block: &[Directive]) -> Self {
        let known = |directive: &&Directive| CLOSES_ALL_WITHIN.contains(&directive.name());
        self.with(block, block.iter().filter(known))
    }

    /// Those of a server or location, on top of what it inherits.
    pub(super) fn within(&self, block: &[Directive]) -> Self {
        self.with(block, block.iter())
    }

    /// An inner directive stands for the outer ones of its kind.
    fn with<'d>(&self, block: &[Directive], inner: impl Iterator<Item = &'d Directive>) -> Self {
        let replaced = |outer: &Directive| {
            let kind = kind_of(outer.name());
            let inherited =
                ["access", "auth_basic", "auth_jwt", "auth_request", "ssl_verify_client"];
            inherited.contains(&kind) && block.iter().any(|inner| kind_of(inner.name()) == kind)
        };
        let outer = self.0.iter().filter(|outer| !replaced(outer)).cloned();
        let closes = inner.filter(|inner| meaning(inner) == Meaning::Closes).cloned();
        Self(outer.chain(closes).collect())
    }

    /// What closes it, for a person; none if it is open. To allow some denies nobody by itself.
    pub(super) fn by(&self) -> Option<String> {
        let closes = self.0.iter().any(|directive| directive.name() != "allow");
        let words = self.0.iter().map(|directive| format!("`{}`", directive.words.join(" ")));
        closes.then(|| words.collect::<Vec<_>>().join(", "))
    }
}

fn kind_of(name: &str) -> &str {
    if matches!(name, "allow" | "deny") { "access" } else { name }
}
