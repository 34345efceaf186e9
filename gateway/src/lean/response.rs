//! A worker's answer: its head read strictly, checked, and written for the client without what belongs
//! to the worker's connection.

use std::mem::MaybeUninit;

use super::body::Body;
use super::head::length;
use super::shrink::Shrink;
use crate::front::{Answer, Ctx, EPOCH_HEADER, OWNER_HEADER};
use crate::reply;

/// Header lines in an answer.
const LINES_MAX: usize = 128;

/// A worker's head, in bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 << 10;

/// What came is no HTTP, or has two framings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAnswer;

/// A head as it stands in the bytes read.
pub(super) struct ResponseHead<'b> {
    /// The status.
    pub(super) status: u16,
    reason: &'b str,
    lines: &'b [httparse::Header<'b>],
    /// How its body is framed, were there one.
    framing: Body,
    /// Whether the worker takes another request on the connection.
    pub(super) keep_alive: bool,
    /// Whether `Connection` says more than what becomes of the connection.
    names_headers: bool,
    /// Whether it agrees to speak WebSocket.
    pub(super) websocket: bool,
}

/// How the client is sent an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether the client knows HTTP/1.1.
    pub(super) http11: bool,
    /// Whether this is the connection's last answer.
    pub(super) last: bool,
    /// Whether no body follows, whatever the headers say.
    pub(super) bodiless: bool,
}

/// How an answer's body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writing {
    /// As it is: its length has been told, or the connection's end tells it.
    Plain,
    /// In chunks.
    Chunks,
}

/// Reads a head, if it is whole, and gives it with its length to `f`; `None` while more must come.
///
/// # Errors
/// [`BadAnswer`].
pub(super) fn read<T>(
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
        let (mut told, mut chunked) = (None, false);
        let (mut agrees, mut websocket) = (false, false);
        for line in self.lines {
            let is = |known: &str| line.name.eq_ignore_ascii_case(known);
            match line.name.len() {
                14 if is("content-length") => {
                    if told.is_some() {
                        return Err(BadAnswer);
                    }
                    told = Some(length(line.value).ok_or(BadAnswer)?);
                }
                17 if is("transfer-encoding") => {
                    if chunked || !http11 || !line.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(BadAnswer);
                    }
                    chunked = true;
                }
                10 if is("connection") => {
                    let any = |known: &[u8]| {
                        let mut words = line.value.split(|byte| *byte == b',');
                        words.any(|word| word.trim_ascii().eq_ignore_ascii_case(known))
                    };
                    let options: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
                    let is_option = |word: &[u8]| {
                        options.iter().any(|known| word.trim_ascii().eq_ignore_ascii_case(known))
                    };
                    let mut words = line.value.split(|byte| *byte == b',');
                    self.names_headers |= words.any(|word| !is_option(word));
                    self.keep_alive &= !any(b"close");
                    agrees |= any(b"upgrade");
                }
                7 if is("upgrade") => websocket = line.value.eq_ignore_ascii_case(b"websocket"),
                _ => {}
            }
        }
        self.websocket = agrees && websocket;
        self.framing = match (told, chunked) {
            (Some(_), true) => return Err(BadAnswer),
            (Some(0), false) => Body::Done,
            (Some(length), false) => Body::Length(length),
            (None, true) => Body::chunked(),
            (None, false) => Body::UntilClose,
        };
        Ok(())
    }

    /// The first header of this name.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        let mut lines = self.lines.iter();
        lines.find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// Every header that is not the connection's own.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let own = |name: &str| {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            match name.len() {
                2 => is("te"),
                7 => is("upgrade") || is("trailer"),
                10 => is("connection") || is("keep-alive"),
                12 => is("x-request-id"),
                16 => is("proxy-connection"),
                // Where workers are is nothing to clients.
                17 => is("transfer-encoding") || is(OWNER_HEADER) || is(EPOCH_HEADER),
                _ => false,
            }
        };
        let kept = move |line: &&httparse::Header<'_>| !own(line.name) && !self.names(line.name);
        self.lines.iter().filter(kept).map(|line| (line.name, line.value))
    }

    /// Says whether `Connection` names this header as the connection's own (RFC 9110 §7.6.1); the body's
    /// length is never that.
    fn names(&self, name: &str) -> bool {
        if !self.names_headers || name.eq_ignore_ascii_case("content-length") {
            return false;
        }
        let lines = self.lines.iter();
        let mut lists = lines.filter(|line| line.name.eq_ignore_ascii_case("connection"));
        lists.any(|list| {
            let mut words = list.value.split(|byte| *byte == b',');
            words.any(|word| word.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
        })
    }

    /// How its body is framed, the request being a HEAD or not (RFC 9112 §6.3).
    pub(super) fn body(&self, bodiless: bool) -> Body {
        if bodiless || matches!(self.status, 204 | 304) { Body::Done } else { self.framing }
    }

    /// Gives out the headers as the client gets them, but for what frames the body on HTTP/1; takes the
    /// filter away that finds nothing to do.
    pub(super) fn each(
        &self,
        ctx: &Ctx,
        bodiless: bool,
        shrink: &mut Option<Box<Shrink>>,
        put: &mut dyn FnMut(&str, &[u8]),
    ) {
        let mut seen_cors = false;
        let mut pass = |name: &str, value: &[u8]| {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            match name.len() {
                // Where there is no body, 204 may not even tell a length (RFC 9110 §8.6).
                14 if self.status == 204 && is("content-length") => return,
                27 if is(reply::CORS[0].0) => seen_cors = true,
                _ => {}
            }
            put(name, value);
        };
        match shrink {
            Some(filter) => {
                let ends = self.body(bodiless).is_done();
                filter.headers(self.status, self.headers(), ends, &mut pass);
            }
            None => self.headers().for_each(|(name, value)| pass(name, value)),
        }
        if shrink.as_ref().is_some_and(|filter| !filter.is_at_work()) {
            *shrink = None;
        }
        put("x-request-id", ctx.request_id.as_bytes());
        if ctx.live.config.cors && !seen_cors {
            for (name, value) in reply::CORS {
                put(name, value.as_bytes());
            }
        }
    }

    /// Writes it for the client; says how the body is to be written.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        ctx: &Ctx,
        manner: Manner,
        shrink: &mut Option<Box<Shrink>>,
    ) -> Writing {
        status_line(out, self.status, self.reason);
        let mut has_length = false;
        self.each(ctx, manner.bodiless, shrink, &mut |name, value| {
            has_length |= name.len() == 14 && name.eq_ignore_ascii_case("content-length");
            header(out, name, value);
        });
        let chunks = !has_length && manner.http11 && self.has_body(manner.bodiless);
        if chunks {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        let endless = !has_length && !chunks && self.has_body(manner.bodiless);
        end_head(out, Manner { last: manner.last || endless, ..manner });
        let done = self.body(manner.bodiless).is_done();
        if chunks && !done { Writing::Chunks } else { Writing::Plain }
    }

    /// Says whether a client waits for a body after it. A HEAD's answer is written like a GET's.
    fn has_body(&self, bodiless: bool) -> bool {
        !bodiless && !matches!(self.status, 204 | 304)
    }

    /// Says whether the client sees where the body ends without the connection's end.
    pub(super) fn is_delimited(&self, manner: Manner, shrunk: bool) -> bool {
        let told = !shrunk && matches!(self.framing, Body::Length(_) | Body::Done);
        told || manner.http11 || !self.has_body(manner.bodiless)
    }

    /// The headers of an interim answer, which has no body to tell the length of (RFC 9110 §8.6).
    pub(super) fn interim_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers().filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
    }

    /// Writes an interim answer, or the one that switches protocols, as it is.
    pub(super) fn write_interim(&self, out: &mut Vec<u8>) {
        status_line(out, self.status, self.reason);
        self.interim_headers().for_each(|(name, value)| header(out, name, value));
        if self.status == 101 {
            out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    let digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|d| b'0' + d as u8);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits);
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn header(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn end_head(out: &mut Vec<u8>, manner: Manner) {
    out.extend_from_slice(match (manner.last, manner.http11) {
        (true, _) => b"connection: close\r\n\r\n",
        (false, true) => b"\r\n",
        (false, false) => b"connection: keep-alive\r\n\r\n",
    });
}

/// Writes the head of an answer made at the door.
pub(super) fn write_head<'h>(
    out: &mut Vec<u8>,
    status: u16,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    manner: Manner,
) {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    status_line(out, status, reason.unwrap_or_default());
    headers.for_each(|(name, value)| header(out, name, value));
    end_head(out, manner);
}

/// Writes a whole answer made at the door; how many bytes of it are body.
pub(super) fn write_answer(out: &mut Vec<u8>, answer: &Answer, manner: Manner) -> usize {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    write_head(out, answer.status, headers, manner);
    if manner.bodiless || answer.status == 204 {
        return 0;
    }
    out.extend_from_slice(&answer.body);
    answer.body.len()
}

#[cfg(test)]
mod tests;
