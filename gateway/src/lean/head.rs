//! The head of a request over HTTP/1: found in the bytes, checked against everything two readers could
//! understand differently (RFC 9112 §2.2, §3.2, §5.2, §6.1, §11.2), and looked at in place.
//!
//! Invariants:
//! 1. Lines end with CR LF and with nothing else; no CR stands elsewhere, no line is folded.
//! 2. There is one framing: none, one `Content-Length` of digits, or `Transfer-Encoding: chunked`.
//! 3. There is at most one authority, and it is a host.
//! 4. The target has one reading, and it is said once who asks.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::authority::is_authority;
use crate::front::EPOCH_HEADER;
use crate::head::Head;
use crate::reply::{self, Reply};
use crate::request_target::{Target, credentials_are_one};
use crate::routes::Methods;

/// Header lines in a request; browsers send about twenty.
const LINES_MAX: usize = 128;

/// What the search for a head's end has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Nothing yet.
    More,
    /// The head ends before this place.
    End(usize),
    /// A line that breaks invariant 1.
    Loose,
}

/// Finds the end of a head, looking at each byte once however it arrives.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    line: usize,
    searched: usize,
}

impl Scanner {
    /// Looks at what has come so far, from its beginning.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Scan {
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.searched..]) {
            let end = self.searched + at;
            let Some(line) = bytes[self.line..end].strip_suffix(b"\r") else { return Scan::Loose };
            if line.is_empty() {
                return Scan::End(end + 1);
            }
            let folded = self.line != 0 && matches!(line[0], b' ' | b'\t');
            if folded || memchr::memchr(b'\r', line).is_some() {
                return Scan::Loose;
            }
            self.line = end + 1;
            self.searched = end + 1;
        }
        self.searched = bytes.len();
        Scan::More
    }
}

/// How the body of a request is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What becomes of a header line on its way to the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on as it is.
    Goes,
    /// It belongs to this connection alone, or is written anew.
    Stays,
    /// It tells a trace.
    Trace,
}

/// One header line: places in the head's bytes.
#[derive(Debug)]
struct Line {
    name: (u32, u32),
    value: (u32, u32),
    fate: Fate,
}

/// A request's head.
#[derive(Debug)]
pub(super) struct RequestHead {
    bytes: Vec<u8>,
    method: (u32, u32),
    target: Target,
    /// The authority of a target in absolute form.
    authority: Option<(u32, u32)>,
    lines: Vec<Line>,
    /// Whether it says HTTP/1.1, not 1.0.
    pub(super) http11: bool,
    /// How its body is framed.
    pub(super) framing: Framing,
    /// Whether the client would send another request on the connection.
    pub(super) keep_alive: bool,
    /// Whether it waits to be told to send the body.
    pub(super) expects_continue: bool,
    /// Whether it asks to speak WebSocket.
    pub(super) upgrade: bool,
    has_host: bool,
}

/// What the lines say, gathered.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    lengths: u32,
    codings: u32,
    chunked: bool,
    hosts: u32,
    authorizations: usize,
    bearer: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    websocket: bool,
    expects_continue: bool,
    names_others: bool,
}

fn at(bytes: &[u8], part: &[u8]) -> (u32, u32) {
    let from = part.as_ptr() as usize - bytes.as_ptr() as usize;
    (from as u32, (from + part.len()) as u32)
}

fn cut(bytes: &[u8], (from, to): (u32, u32)) -> &[u8] {
    &bytes[from as usize..to as usize]
}

impl RequestHead {
    /// Reads a head that [`Scanner`] has found the end of.
    ///
    /// # Errors
    /// The reply that refuses it; then the connection must end, for nobody knows where the next request
    /// begins.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, Reply> {
        let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
        let mut request = httparse::Request::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_request_with_uninit_headers(&mut request, &bytes, &mut lines) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(reply::HEADER_TOO_LARGE),
            _ => return Err(reply::MALFORMED),
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(reply::MALFORMED);
        };
        if method == "CONNECT" {
            return Err(reply::WRONG_METHOD.allowing(Methods::NAMED));
        }
        let http11 = request.version == Some(1);
        let mut said = Said::default();
        let mut host = None;
        let mut kept = Vec::with_capacity(request.headers.len());
        for line in request.headers.iter() {
            let fate = said.listen(line.name, line.value)?;
            if line.name.eq_ignore_ascii_case("host") {
                host = Some(line.value);
            }
            let (name, value) = (at(&bytes, line.name.as_bytes()), at(&bytes, line.value));
            kept.push(Line { name, value, fate });
        }
        let framing = said.framing(http11)?;
        let (authority, path) = split_authority(target, host)?;
        // Also where the target names the host (RFC 9112 §3.2).
        if http11 && host.is_none() {
            return Err(reply::MALFORMED);
        }
        let target = match authority {
            Some(_) if !path.starts_with('/') => Target::parse(format!("/{path}").as_bytes()),
            _ => Target::parse(path.as_bytes()),
        }?;
        credentials_are_one(said.authorizations, said.bearer, &target)?;
        let upgrade = said.connection_upgrade
            && said.websocket
            && http11
            && method == "GET"
            && framing == Framing::Empty;
        let mut head = Self {
            method: at(&bytes, method.as_bytes()),
            target,
            authority: authority.map(|authority| at(&bytes, authority)),
            bytes: Vec::new(),
            lines: kept,
            http11,
            framing,
            keep_alive: !said.close && (http11 || said.keep_alive),
            expects_continue: http11 && said.expects_continue && framing != Framing::Empty,
            upgrade,
            has_host: host.is_some(),
        };
        head.bytes = bytes;
        if said.names_others {
            head.hold_back_named();
        }
        Ok(head)
    }

    /// Headers that `Connection` names stay here (RFC 9110 §7.6.1), except those that frame and address
    /// the request: a client must not be able to take these away.
    fn hold_back_named(&mut self) {
        let mut named: Vec<String> = Vec::new();
        for value in self.all("connection") {
            let words = value.split(|byte| *byte == b',');
            named.extend(words.map(|w| String::from_utf8_lossy(w.trim_ascii()).to_lowercase()));
        }
        for line in &mut self.lines {
            let name = String::from_utf8_lossy(cut(&self.bytes, line.name)).to_lowercase();
            let framing = matches!(name.as_str(), "host" | "content-length" | "authorization");
            if !framing && named.contains(&name) {
                line.fate = Fate::Stays;
            }
        }
    }

    /// The first line, header lines and so on, as they stand; each run of lines that go on is one piece.
    /// Trace headers go on where `traces` says so.
    pub(super) fn runs(&self, traces: bool) -> impl Iterator<Item = &[u8]> {
        let mut place = 0;
        let goes = move |line: &Line| match line.fate {
            Fate::Goes => true,
            Fate::Stays => false,
            Fate::Trace => traces,
        };
        std::iter::from_fn(move || {
            let skip = self.lines[place..].iter().position(goes)?;
            let first = place + skip;
            let past = self.lines[first..].iter().position(|line| !goes(line));
            place = past.map_or(self.lines.len(), |count| first + count);
            let from = self.lines[first].name.0 as usize;
            let to =
                self.lines.get(place).map_or(self.bytes.len() - 2, |next| next.name.0 as usize);
            Some(&self.bytes[from..to])
        })
    }

    /// The `Host` to add, where the client sent none: HTTP/1.0.
    pub(super) fn missing_host(&self) -> Option<&[u8]> {
        let authority = self.authority.map_or(&b""[..], |authority| cut(&self.bytes, authority));
        (!self.has_host).then_some(authority)
    }

    fn range(&self, (from, to): (u32, u32)) -> &str {
        let range: Range<usize> = from as usize..to as usize;
        std::str::from_utf8(&self.bytes[range]).unwrap_or_default()
    }
}

impl Said {
    /// Takes in one line, and says what becomes of it.
    fn listen(&mut self, name: &str, value: &[u8]) -> Result<Fate, Reply> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        Ok(match name.len() {
            2 if is("te") => Fate::Stays,
            4 if is("host") => {
                self.hosts += 1;
                if self.hosts > 1 || !is_authority(value) {
                    return Err(reply::MALFORMED);
                }
                Fate::Goes
            }
            6 if is("expect") && value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true;
                Fate::Stays
            }
            7 if is("upgrade") => {
                self.websocket = value.eq_ignore_ascii_case(b"websocket");
                Fate::Stays
            }
            7 if is("trailer") => Fate::Stays,
            10 if is("connection") => {
                self.listen_to_connection(value);
                Fate::Stays
            }
            10 if is("keep-alive") => Fate::Stays,
            10 if is("tracestate") => Fate::Trace,
            11 if is("traceparent") => Fate::Trace,
            12 if is("x-request-id") => Fate::Stays,
            13 if is("authorization") => {
                self.authorizations += 1;
                self.bearer |= is_bearer(value);
                Fate::Goes
            }
            14 if is("content-length") => {
                self.lengths += 1;
                self.length = Some(length(value).ok_or(reply::MALFORMED)?);
                Fate::Goes
            }
            14 if is("http2-settings") => Fate::Stays,
            15 if is("x-forwarded-for") => Fate::Stays,
            16 if is("proxy-connection") => Fate::Stays,
            17 if is("transfer-encoding") => {
                self.codings += 1;
                self.chunked = value.eq_ignore_ascii_case(b"chunked");
                Fate::Stays
            }
            17 if is("x-forwarded-proto") || is(EPOCH_HEADER) => Fate::Stays,
            _ => Fate::Goes,
        })
    }

    fn listen_to_connection(&mut self, value: &[u8]) {
        for word in value.split(|byte| *byte == b',') {
            match word.trim_ascii() {
                b"" => {}
                word if word.eq_ignore_ascii_case(b"close") => self.close = true,
                word if word.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                word if word.eq_ignore_ascii_case(b"upgrade") => self.connection_upgrade = true,
                _ => self.names_others = true,
            }
        }
    }

    /// The one framing, or the refusal of several.
    fn framing(&self, http11: bool) -> Result<Framing, Reply> {
        match (self.lengths, self.codings) {
            (0, 0) => Ok(Framing::Empty),
            (1, 0) => Ok(self.length.filter(|l| *l > 0).map_or(Framing::Empty, Framing::Length)),
            (0, 1) if http11 && self.chunked => Ok(Framing::Chunked),
            _ => Err(reply::MALFORMED),
        }
    }
}

/// Reads a length: digits only, and not so many that it overflows.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Says whether this is an access token's header, as workers see it.
pub(super) fn is_bearer(value: &[u8]) -> bool {
    value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}

/// The authority of a target in absolute form, which must be the `Host`'s, if there is one; and what stands
/// behind it.
fn split_authority<'t>(
    target: &'t str,
    host: Option<&[u8]>,
) -> Result<(Option<&'t [u8]>, &'t str), Reply> {
    let Some((scheme, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return Ok((None, target));
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(reply::UNCLEAR_TARGET);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let same = host.is_none_or(|host| host == authority.as_bytes());
    if !same || !is_authority(authority.as_bytes()) {
        return Err(reply::MALFORMED);
    }
    Ok((Some(authority.as_bytes()), path))
}

impl Head for RequestHead {
    fn method(&self) -> &str {
        self.range(self.method)
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines.iter();
        let found = lines.find(|line| {
            (line.name.1 - line.name.0) as usize == name.len()
                && cut(&self.bytes, line.name).eq_ignore_ascii_case(name.as_bytes())
        })?;
        Some(cut(&self.bytes, found.value))
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        let named =
            |line: &&Line| cut(&self.bytes, line.name).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).map(|line| cut(&self.bytes, line.value)).collect()
    }

    fn protocol(&self) -> &'static str {
        if self.http11 { "HTTP/1.1" } else { "HTTP/1.0" }
    }
}

#[cfg(test)]
mod tests;
