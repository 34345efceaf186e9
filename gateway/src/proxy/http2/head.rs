//! The head of a request over HTTP/2: checked as HTTP/1's is, and written for a worker, which speaks HTTP/1.
//! Names are tokens and values have no line ends in them: the h2 and http crates see to that.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST};
use http::request::Parts;

use crate::pipeline::Ctx;
use crate::pipeline::own_headers;
use crate::pipeline::replay_memory::ReplayPermit;
use crate::pipeline::reply::{self, Reply};
use crate::proxy::request_transfer::{CHUNKED, RequestTransfer, write_own};
use crate::routing::head::Head;
use crate::routing::request_target::{Target, credentials_are_one};
use crate::routing::routes::Methods;
use crate::spans;
use colonnade_http1::{Framing, HeaderAction, hop_by_hop, is_authority, is_bearer, length};

/// A request's head.
pub(crate) struct StreamHead {
    parts: Parts,
    target: Target,
    /// How its body is framed for the worker.
    pub(crate) framing: Framing,
    /// Whether it waits to be told to send the body.
    pub(crate) expects_continue: bool,
}

impl StreamHead {
    /// Checks a head; `ends` says that no body follows.
    ///
    /// # Errors
    /// The reply that refuses it.
    pub(crate) fn new(parts: Parts, ends: bool) -> Result<Self, Reply> {
        if parts.method == http::Method::CONNECT {
            return Err(reply::WRONG_METHOD.allowing(Methods::NAMED));
        }
        let headers = &parts.headers;
        let mut hosts = headers.get_all(HOST).iter();
        let (host, another) = (hosts.next(), hosts.next());
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let both = host.map(|host| host.as_bytes()).zip(authority);
        let named = host.map(|host| host.as_bytes()).or(authority).unwrap_or_default();
        let ambiguous = both.is_some_and(|(host, authority)| host != authority);
        if another.is_some() || ambiguous || !is_authority(named) {
            return Err(reply::MALFORMED);
        }
        // What came behind a `#` the h2 crate has thrown away: nobody reads it.
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str());
        let target = Target::parse(target.as_bytes())?;
        let credentials = || headers.get_all(AUTHORIZATION).iter();
        let any_is_bearer = credentials().any(|value| is_bearer(value.as_bytes()));
        credentials_are_one(credentials().count(), any_is_bearer, &target)?;
        // It frames the request for the worker; that it fits what comes is looked at as it comes.
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        let declared = lengths.next().map(|value| length(value.as_bytes()).ok_or(reply::MALFORMED));
        let framing = match (declared.transpose()?, ends) {
            _ if lengths.next().is_some() => return Err(reply::MALFORMED),
            (None | Some(0), true) => Framing::Empty,
            (Some(_), true) => return Err(reply::MALFORMED),
            (Some(length), false) => Framing::Length(length),
            (None, false) => Framing::Chunked,
        };
        let expects = headers.get(EXPECT).map(|value| value.as_bytes());
        let expects_continue = expects.is_some_and(|v| v.eq_ignore_ascii_case(b"100-continue"));
        Ok(Self { parts, target, framing, expects_continue: expects_continue && !ends })
    }

    /// The request as the worker is sent it.
    pub(crate) fn upload(&self, ctx: &Ctx, share: ReplayPermit) -> RequestTransfer {
        let mut out = Vec::with_capacity(1024);
        put(
            &mut out,
            &[self.method().as_bytes(), b" ", self.target.as_str().as_bytes(), b" HTTP/1.1\r\n"],
        );
        let traces = spans::headers(&ctx.span);
        self.each_passing(ctx.trace_goes_on && traces.is_empty(), &mut |name, value| {
            put(&mut out, &[name.as_bytes(), b": ", value, b"\r\n"]);
        });
        write_own(&mut out, ctx, &traces);
        if self.framing == Framing::Chunked {
            put(&mut out, &[CHUNKED]);
        }
        put(&mut out, &[b"\r\n"]);
        RequestTransfer::with_head(out, self.framing, share)
    }

    /// Gives out the headers that go on to a worker, `Host` first; those of a trace where `traces` says so.
    pub(crate) fn each_passing(&self, traces: bool, put: &mut dyn FnMut(&str, &[u8])) {
        put("host", self.header("host").unwrap_or_default());
        for (name, value) in &self.parts.headers {
            let goes = match name.as_str() {
                "host" | "cookie" => false,
                // HTTP/2 has no `Connection` that could name others (RFC 9113 §8.2.2).
                own if hop_by_hop::stays(own, std::iter::empty()) => false,
                other => match own_headers::in_request(other) {
                    HeaderAction::Pass => true,
                    HeaderAction::Drop => false,
                    HeaderAction::Trace => traces,
                },
            };
            if goes {
                put(name.as_str(), value.as_bytes());
            }
        }
        // HTTP/2 may send one cookie a line (RFC 9113 §8.2.3); HTTP/1 has one line for all.
        let cookies = self.parts.headers.get_all(COOKIE);
        let cookies: Vec<&[u8]> = cookies.iter().map(|cookie| cookie.as_bytes()).collect();
        if !cookies.is_empty() {
            put("cookie", &cookies.join(&b"; "[..]));
        }
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

impl Head for StreamHead {
    fn method(&self) -> &str {
        self.parts.method.as_str()
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.parts.headers.get(name).map(|value| value.as_bytes());
        let authority = || self.parts.uri.authority().map(|a| a.as_str().as_bytes());
        found.or_else(|| authority().filter(|_| name == "host"))
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.parts.headers.get_all(name).into_iter().map(|value| value.as_bytes()).collect()
    }

    fn protocol(&self) -> &'static str {
        "HTTP/2.0"
    }
}
