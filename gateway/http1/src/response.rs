//! The head of an answer: read strictly, and what it says about its body and its connection.

use std::mem::MaybeUninit;

use crate::{AnswerFraming, Body, hop_by_hop, length};

/// Header lines in an answer.
const LINES_MAX: usize = 128;

/// A worker's head, in bytes.
pub const HEAD_BYTES_MAX: usize = 64 << 10;

/// What came is no HTTP, or has two framings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAnswer;

/// A head as it stands in the bytes read.
pub struct ResponseHead<'b> {
    /// The status.
    pub status: u16,
    reason: &'b str,
    lines: &'b [httparse::Header<'b>],
    /// How its body is framed, were there one.
    framing: Body,
    /// Whether the worker takes another request on the connection.
    pub keep_alive: bool,
    /// Whether `Connection` says more than what becomes of the connection.
    names_headers: bool,
    /// Whether it agrees to speak WebSocket.
    pub websocket: bool,
}

/// Reads a head, if it is whole, and gives it with its length to `f`; `None` while more must come.
///
/// # Errors
/// [`BadAnswer`].
pub fn read<T>(
    bytes: &[u8],
    f: impl FnOnce(&ResponseHead<'_>, usize) -> T,
) -> Result<Option<T>, BadAnswer> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut lines);
    let end = match parsed {
        Ok(httparse::Status::Complete(end)) if end <= HEAD_BYTES_MAX => end,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        _ => return Err(BadAnswer),
    };
    // httparse takes a bare LF for a line's end.
    if memchr::memchr_iter(b'\n', &bytes[..end]).any(|at| at == 0 || bytes[at - 1] != b'\r') {
        return Err(BadAnswer);
    }
    let http11 = response.version == Some(1);
    let mut head = ResponseHead {
        status: response.code.ok_or(BadAnswer)?,
        reason: response.reason.unwrap_or_default(),
        lines: response.headers,
        framing: Body::UntilClose,
        keep_alive: http11,
        names_headers: false,
        websocket: false,
    };
    if head.status < 100 {
        return Err(BadAnswer);
    }
    head.understand(http11)?;
    Ok(Some(f(&head, end)))
}

impl ResponseHead<'_> {
    fn understand(&mut self, http11: bool) -> Result<(), BadAnswer> {
        let (mut declared, mut chunked) = (None, false);
        let (mut agrees, mut websocket) = (false, false);
        for line in self.lines {
            let is = |known: &str| line.name.eq_ignore_ascii_case(known);
            match line.name.len() {
                14 if is("content-length") => {
                    if declared.is_some() {
                        return Err(BadAnswer);
                    }
                    declared = Some(length(line.value).ok_or(BadAnswer)?);
                }
                17 if is("transfer-encoding") => {
                    if chunked || !http11 || !line.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(BadAnswer);
                    }
                    chunked = true;
                }
                10 if is("connection") => {
                    let mut words = hop_by_hop::words(line.value);
                    self.names_headers |= words.any(|word| !hop_by_hop::is_option(word));
                    self.keep_alive &= !hop_by_hop::names(line.value, "close");
                    agrees |= hop_by_hop::names(line.value, "upgrade");
                }
                7 if is("upgrade") => websocket = line.value.eq_ignore_ascii_case(b"websocket"),
                _ => {}
            }
        }
        self.websocket = agrees && websocket;
        self.framing = match (declared, chunked) {
            (Some(_), true) => return Err(BadAnswer),
            (Some(0), false) => Body::Done,
            (Some(length), false) => Body::Length(length),
            (None, true) => Body::chunked(),
            (None, false) => Body::UntilClose,
        };
        Ok(())
    }

    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// The words behind the status.
    pub fn reason(&self) -> &str {
        self.reason
    }

    /// Every header that is not the connection's own.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // Most `Connection` headers name no header: then none is looked at again for each line.
        let looked_at = if self.names_headers { self.lines } else { &[] };
        let lists = looked_at.iter().filter(|line| line.name.eq_ignore_ascii_case("connection"));
        let lists = lists.map(|line| line.value);
        let lines = self.lines.iter().map(|line| (line.name, line.value));
        lines.filter(move |(name, _)| !hop_by_hop::stays(name, lists.clone()))
    }

    /// How its body is framed, the request being a HEAD or not (RFC 9112 §6.3).
    pub fn body(&self, bodiless: bool) -> Body {
        if bodiless || matches!(self.status, 204 | 304) { Body::Done } else { self.framing }
    }

    /// Says whether a client waits for a body after it. A HEAD's answer is written like a GET's.
    pub fn has_body(&self, bodiless: bool) -> bool {
        !bodiless && !matches!(self.status, 204 | 304)
    }

    /// Says whether the client sees where the body ends without the connection's end.
    pub fn is_delimited(&self, manner: AnswerFraming, shrunk: bool) -> bool {
        let by_length = !shrunk && matches!(self.framing, Body::Length(_) | Body::Done);
        by_length || manner.http11 || !self.has_body(manner.bodiless)
    }
}

#[cfg(test)]
mod tests;
