//! The head of a request over HTTP/1: found in the bytes, checked against everything two readers could
//! understand differently (RFC 9112 §2.2, §3.2, §5.2, §6.1, §11.2), and looked at in place.
//!
//! Invariants:
//! 1. Lines end with CR LF and with nothing else; no CR stands elsewhere, no line is folded.
//! 2. There is one framing: none, one `Content-Length` of digits, or `Transfer-Encoding: chunked`.
//! 3. There is at most one authority, and it is a host.
//! 4. The target is in origin form, or in absolute form with the authority of `Host`.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::{hop_by_hop, is_authority};

/// Header lines in a request; browsers send about twenty.
const LINES_MAX: usize = 128;

/// What the search for a head's end has found.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// Nothing yet.
    More,
    /// The head ends before this place.
    End(usize),
    /// A line that breaks invariant 1.
    Loose,
}

/// Finds the end of a head, looking at each byte once however it arrives.
#[derive(Debug, Default)]
pub struct Scanner {
    line: usize,
    searched: usize,
}

impl Scanner {
    /// Looks at what has come so far, from its beginning.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
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
pub enum Framing {
    /// There is none.
    Empty,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What a proxy does with a header line that is not the connection's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderAction {
    /// It is passed on as it is.
    Pass,
    /// It is not passed on: the proxy writes its own, or the sender may not set it.
    Drop,
    /// It tells a trace: whether it is passed on is decided for each request.
    Trace,
}

/// Why a head is refused; nobody knows then where the next request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no HTTP/1, or could be understood in two ways.
    #[error("not one request of HTTP/1")]
    Malformed,
    /// It has more than 128 header lines.
    #[error("too many header lines")]
    TooManyHeaders,
    /// It asks for a tunnel (`CONNECT`).
    #[error("CONNECT is not for this server")]
    Connect,
    /// Its target is of a scheme other than http and https.
    #[error("a target of another scheme")]
    OtherScheme,
}

/// One header line: places in the head's bytes.
#[derive(Debug)]
struct Line {
    name: (u32, u32),
    value: (u32, u32),
    action: HeaderAction,
}

/// A request's head.
#[derive(Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    method: (u32, u32),
    target: (u32, u32),
    /// The authority of a target in absolute form.
    authority: Option<(u32, u32)>,
    lines: Vec<Line>,
    /// Whether it says HTTP/1.1, not 1.0.
    pub http11: bool,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the client would send another request on the connection.
    pub keep_alive: bool,
    /// Whether it waits to be told to send the body.
    pub expects_continue: bool,
    /// Whether it asks to speak WebSocket.
    pub upgrade: bool,
    has_host: bool,
    authorizations: usize,
    bearer: bool,
}

/// What the lines say, gathered.
#[derive(Default)]
struct HeaderFacts {
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
    /// `action` says what a proxy does with a header that is not the connection's own, by its name.
    ///
    /// # Errors
    /// [`RequestError`]; then the connection must end.
    pub fn parse(
        bytes: Vec<u8>,
        action: impl Fn(&str) -> HeaderAction,
    ) -> Result<Self, RequestError> {
        let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
        let mut request = httparse::Request::new(&mut []);
        let config = httparse::ParserConfig::default();
        match config.parse_request_with_uninit_headers(&mut request, &bytes, &mut lines) {
            Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
            Err(httparse::Error::TooManyHeaders) => return Err(RequestError::TooManyHeaders),
            _ => return Err(RequestError::Malformed),
        }
        let (Some(method), Some(target)) = (request.method, request.path) else {
            return Err(RequestError::Malformed);
        };
        if method == "CONNECT" {
            return Err(RequestError::Connect);
        }
        let http11 = request.version == Some(1);
        let mut facts = HeaderFacts::default();
        let mut host = None;
        let mut kept = Vec::with_capacity(request.headers.len());
        for line in request.headers.iter() {
            let own = facts.listen(line.name, line.value)?;
            let action = if own { HeaderAction::Drop } else { action(line.name) };
            if line.name.eq_ignore_ascii_case("host") {
                host = Some(line.value);
            }
            let (name, value) = (at(&bytes, line.name.as_bytes()), at(&bytes, line.value));
            kept.push(Line { name, value, action });
        }
        let framing = facts.framing(http11)?;
        let (authority, path) = split_authority(target, host)?;
        // Also where the target names the host (RFC 9112 §3.2).
        if http11 && host.is_none() {
            return Err(RequestError::Malformed);
        }
        let upgrade = facts.connection_upgrade
            && facts.websocket
            && http11
            && method == "GET"
            && framing == Framing::Empty;
        let mut head = Self {
            method: at(&bytes, method.as_bytes()),
            target: at(&bytes, path.as_bytes()),
            authority: authority.map(|authority| at(&bytes, authority)),
            bytes: Vec::new(),
            lines: kept,
            http11,
            framing,
            keep_alive: !facts.close && (http11 || facts.keep_alive),
            expects_continue: http11 && facts.expects_continue && framing != Framing::Empty,
            upgrade,
            has_host: host.is_some(),
            authorizations: facts.authorizations,
            bearer: facts.bearer,
        };
        head.bytes = bytes;
        if facts.names_others {
            head.hold_back_named();
        }
        Ok(head)
    }

    /// Headers that `Connection` names are not passed on (RFC 9110 §7.6.1).
    fn hold_back_named(&mut self) {
        let lists = self.all("connection");
        let is_named =
            |line: &Line| hop_by_hop::is_named(self.range(line.name), lists.iter().copied());
        let named: Vec<bool> = self.lines.iter().map(is_named).collect();
        for (line, _) in self.lines.iter_mut().zip(named).filter(|(_, named)| *named) {
            line.action = HeaderAction::Drop;
        }
    }

    /// The method, as sent.
    pub fn method(&self) -> &str {
        self.range(self.method)
    }

    /// The path and query as sent; without the leading `/` where the absolute form leaves it out.
    pub fn target(&self) -> &str {
        self.range(self.target)
    }

    /// Whether the target names the authority: the absolute form.
    pub fn is_absolute(&self) -> bool {
        self.authority.is_some()
    }

    /// How many `Authorization` headers it has, and whether one of them is an access token's.
    pub fn authorizations(&self) -> (usize, bool) {
        (self.authorizations, self.bearer)
    }

    /// The first header of this name (in any case).
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines.iter();
        let found = lines.find(|line| {
            (line.name.1 - line.name.0) as usize == name.len()
                && cut(&self.bytes, line.name).eq_ignore_ascii_case(name.as_bytes())
        })?;
        Some(cut(&self.bytes, found.value))
    }

    /// Every header of this name, in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let named =
            |line: &&Line| cut(&self.bytes, line.name).eq_ignore_ascii_case(name.as_bytes());
        self.lines.iter().filter(named).map(|line| cut(&self.bytes, line.value)).collect()
    }

    /// The header lines as they stand, as they stand; each run of lines that go on is one piece.
    /// Trace headers go on where `traces` says so.
    pub fn runs(&self, traces: bool) -> impl Iterator<Item = &[u8]> {
        let mut place = 0;
        let goes = move |line: &Line| match line.action {
            HeaderAction::Pass => true,
            HeaderAction::Drop => false,
            HeaderAction::Trace => traces,
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

    /// The headers that go on, one by one, as [`RequestHead::runs`] gives them in pieces.
    pub fn passing(&self, traces: bool) -> impl Iterator<Item = (&str, &[u8])> {
        let goes = move |line: &&Line| match line.action {
            HeaderAction::Pass => true,
            HeaderAction::Drop => false,
            HeaderAction::Trace => traces,
        };
        let lines = self.lines.iter().filter(goes);
        lines.map(|line| (self.range(line.name), cut(&self.bytes, line.value)))
    }

    /// The `Host` to add, where the client sent none: HTTP/1.0.
    pub fn missing_host(&self) -> Option<&[u8]> {
        let authority = self.authority.map_or(&b""[..], |authority| cut(&self.bytes, authority));
        (!self.has_host).then_some(authority)
    }

    fn range(&self, (from, to): (u32, u32)) -> &str {
        let range: Range<usize> = from as usize..to as usize;
        std::str::from_utf8(&self.bytes[range]).unwrap_or_default()
    }
}

impl HeaderFacts {
    /// Takes in one line; says whether it is the connection's own.
    fn listen(&mut self, name: &str, value: &[u8]) -> Result<bool, RequestError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("host") => {
                self.hosts += 1;
                if self.hosts > 1 || !is_authority(value) {
                    return Err(RequestError::Malformed);
                }
            }
            6 if is("expect") && value.eq_ignore_ascii_case(b"100-continue") => {
                self.expects_continue = true;
                return Ok(true);
            }
            7 if is("upgrade") => self.websocket = value.eq_ignore_ascii_case(b"websocket"),
            10 if is("connection") => self.listen_to_connection(value),
            13 if is("authorization") => {
                self.authorizations += 1;
                self.bearer |= is_bearer(value);
            }
            14 if is("content-length") => {
                self.lengths += 1;
                self.length = Some(length(value).ok_or(RequestError::Malformed)?);
            }
            17 if is("transfer-encoding") => {
                self.codings += 1;
                self.chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(hop_by_hop::is_own(name))
    }

    fn listen_to_connection(&mut self, value: &[u8]) {
        for word in hop_by_hop::words(value) {
            match word {
                word if word.eq_ignore_ascii_case(b"close") => self.close = true,
                word if word.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                word if word.eq_ignore_ascii_case(b"upgrade") => self.connection_upgrade = true,
                _ => self.names_others = true,
            }
        }
    }

    /// The one framing, or the refusal of several.
    fn framing(&self, http11: bool) -> Result<Framing, RequestError> {
        match (self.lengths, self.codings) {
            (0, 0) => Ok(Framing::Empty),
            (1, 0) => Ok(self.length.filter(|l| *l > 0).map_or(Framing::Empty, Framing::Length)),
            (0, 1) if http11 && self.chunked => Ok(Framing::Chunked),
            _ => Err(RequestError::Malformed),
        }
    }
}

/// Reads a length: digits only, and not so many that it overflows.
pub fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

/// Says whether this is an access token's header, as workers see it.
pub fn is_bearer(value: &[u8]) -> bool {
    value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
}

/// The authority of a target in absolute form, which must be the `Host`'s, if there is one; and what stands
/// behind it.
fn split_authority<'t>(
    target: &'t str,
    host: Option<&[u8]>,
) -> Result<(Option<&'t [u8]>, &'t str), RequestError> {
    let Some((scheme, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) else {
        return Ok((None, target));
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(RequestError::OtherScheme);
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let same = host.is_none_or(|host| host == authority.as_bytes());
    if !same || !is_authority(authority.as_bytes()) {
        return Err(RequestError::Malformed);
    }
    Ok((Some(authority.as_bytes()), path))
}

#[cfg(test)]
mod tests;
