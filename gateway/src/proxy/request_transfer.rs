//! What a worker is sent: the request's head as the client wrote it, without what belongs to the client's
//! connection, with what the gateway adds; then the body, framed anew. The beginning is kept until an
//! answer comes, so that another worker can be sent the same, if it is short and all requests together do not
//! hold too much (`pipeline/replay_memory.rs`).

use std::ops::Range;

use super::http1::request::Request;
use crate::pipeline::Ctx;
use crate::pipeline::replay_memory::ReplayPermit;
use crate::pipeline::reply::{self, Reply};
use crate::routing::head::Head;
use crate::spans;
use colonnade_http1::Framing;
use colonnade_http1::{BadBody, Body, LAST_CHUNK, write_chunk};

/// So much of a request is kept to be sent again.
pub(crate) const REPLAY_MAX: usize = 64 << 10;

/// No more is taken from the client while so much has not gone on.
const PENDING_MAX: usize = 64 << 10;

/// Says that the client waits to be told that its body is wanted.
const EXPECTS: &[u8] = b"expect: 100-continue\r\n";

/// Says that the body comes in chunks.
pub(crate) const CHUNKED: &[u8] = b"transfer-encoding: chunked\r\n";

/// Writes the headers that tell a worker who asks.
pub(crate) fn write_own(out: &mut Vec<u8>, ctx: &Ctx, traces: &[(String, String)]) {
    each_own(ctx, traces, &mut |name, value| {
        [name, ": ", value, "\r\n"].iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
    });
}

/// Gives out the headers that tell a worker who asks.
pub(crate) fn each_own(ctx: &Ctx, traces: &[(String, String)], put: &mut dyn FnMut(&str, &str)) {
    if let Some(client) = &ctx.client {
        put("x-forwarded-for", &client.forwarded_for);
        put("x-forwarded-proto", client.proto);
    }
    put("x-request-id", &ctx.request_id);
    traces.iter().for_each(|(name, value)| put(name, value));
}

/// A request on its way to a worker.
#[derive(Debug)]
pub(crate) struct RequestTransfer {
    bytes: Vec<u8>,
    sent: usize,
    /// Whether `bytes` still begins with the beginning.
    whole: bool,
    /// Whether there was memory for what came last.
    may_grow: bool,
    /// Where in the head the line stands that tells the worker by which map it was chosen.
    map_line: Range<usize>,
    body: Body,
    chunked: bool,
    share: ReplayPermit,
    /// Whether the client has sent all of it.
    pub(crate) is_taken: bool,
    /// Whether the worker reads no more of it.
    pub(crate) refused: bool,
}

impl RequestTransfer {
    /// Writes the head.
    pub(crate) fn new(head: &Request, ctx: &Ctx, share: ReplayPermit) -> Self {
        let mut bytes = Vec::with_capacity(1024);
        let out = &mut bytes;
        let mut put =
            |parts: &[&str]| parts.iter().for_each(|p| out.extend_from_slice(p.as_bytes()));
        put(&[head.method(), " ", head.target().as_str(), " HTTP/1.1\r\n"]);
        let traces = spans::headers(&ctx.span);
        for run in head.wire.runs(ctx.trace_goes_on && traces.is_empty()) {
            out.extend_from_slice(run);
        }
        if let Some(host) = head.wire.missing_host() {
            for part in [b"host: ", host, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
        write_own(out, ctx, &traces);
        if head.wire.expects_continue {
            out.extend_from_slice(EXPECTS);
        }
        if head.wire.framing == Framing::Chunked {
            out.extend_from_slice(CHUNKED);
        }
        if head.wire.upgrade {
            out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        }
        out.extend_from_slice(b"\r\n");
        Self::with_head(bytes, head.wire.framing, share)
    }

    /// A request whose head has been written.
    pub(crate) fn with_head(bytes: Vec<u8>, framing: Framing, mut share: ReplayPermit) -> Self {
        let body = Body::from(framing);
        // Before the empty line.
        let end = bytes.len() - 2;
        Self {
            whole: share.reaches(bytes.len()),
            may_grow: true,
            bytes,
            sent: 0,
            map_line: end..end,
            body,
            chunked: framing == Framing::Chunked,
            share,
            is_taken: body.is_done(),
            refused: false,
        }
    }

    /// What has not been sent yet.
    pub(crate) fn pending(&self) -> &[u8] {
        if self.refused { &[] } else { &self.bytes[self.sent..] }
    }

    /// So much has been sent.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
        // What cannot be sent again anyway is not held.
        if !self.whole && self.sent == self.bytes.len() {
            (self.bytes, self.sent) = (Vec::new(), 0);
            self.share.give_back();
        }
    }

    /// Says whether more of the body may be taken from the client.
    pub(crate) fn wants_more(&self) -> bool {
        let pending = self.pending().len();
        !self.is_taken
            && !self.refused
            && (pending == 0 || (pending < PENDING_MAX && self.may_grow))
    }

    /// Says whether the worker has got all of it.
    pub(crate) fn is_sent(&self) -> bool {
        self.is_taken && !self.refused && self.sent == self.bytes.len()
    }

    /// Says whether it can be sent again from the beginning.
    pub(crate) fn is_replayable(&self) -> bool {
        self.whole
    }

    /// Begins again, for another worker; `map_line` tells that one by which map it was chosen. It is left
    /// out where the request could not be sent again: the worker may answer that another owns what is asked for.
    pub(crate) fn rewind(&mut self, map_line: Option<&str>) {
        self.sent = 0;
        self.refused = false;
        let line = match map_line {
            Some(line) if self.stays_whole_with(line.len()) => line,
            _ => "",
        };
        if self.whole && !(line.is_empty() && self.map_line.is_empty()) {
            let put = self.map_line.start..self.map_line.start + line.len();
            self.bytes.splice(std::mem::replace(&mut self.map_line, put), line.bytes());
        }
    }

    /// Says whether all of it will be kept, with so much more in its head.
    fn stays_whole_with(&mut self, more: usize) -> bool {
        let left = match self.body {
            Body::Done => 0,
            Body::Length(left) => left,
            Body::Chunked(_) | Body::UntilClose => return false,
        };
        let kept = self.bytes.len() - self.map_line.len() + more;
        let fits = self.whole && left <= REPLAY_MAX.saturating_sub(kept) as u64;
        fits && self.share.reaches(kept + left as usize)
    }

    /// Takes the body off what the client has sent; returns whether anything was taken.
    ///
    /// # Errors
    /// The reply to a body that is too large, or not framed as it should be.
    pub(crate) fn take(&mut self, input: &mut Vec<u8>, ctx: &mut Ctx) -> Result<bool, Reply> {
        let mut taken = 0;
        while !self.body.is_done() && self.pending().len() < PENDING_MAX {
            let next = self.body.next(&input[taken..]);
            let (count, data) = next.map_err(|BadBody| reply::MALFORMED)?;
            if count == 0 {
                break;
            }
            self.add(data, ctx)?;
            taken += count;
        }
        if taken == input.len() {
            *input = Vec::new();
        } else {
            input.drain(..taken);
        }
        if self.body.is_done() {
            self.end();
        }
        Ok(taken > 0)
    }

    /// Takes a piece of a body that came without framing of its own.
    ///
    /// # Errors
    /// The reply to a body that is too large, or longer than was told.
    pub(crate) fn push(&mut self, data: &[u8], ctx: &mut Ctx) -> Result<(), Reply> {
        if let Body::Length(left) = &mut self.body {
            *left = left.checked_sub(data.len() as u64).ok_or(reply::MALFORMED)?;
        }
        self.add(data, ctx)
    }

    /// Ends such a body.
    ///
    /// # Errors
    /// When it is shorter than was told.
    pub(crate) fn finish(&mut self) -> Result<(), Reply> {
        if matches!(self.body, Body::Length(1..)) {
            return Err(reply::MALFORMED);
        }
        self.end();
        Ok(())
    }

    /// Frames a piece of the body for the worker.
    fn add(&mut self, data: &[u8], ctx: &mut Ctx) -> Result<(), Reply> {
        ctx.body_bytes += data.len() as u64;
        if ctx.body_bytes > ctx.body_bytes_max {
            return Err(reply::BODY_TOO_LARGE);
        }
        self.forget_beginning(data.len());
        match self.chunked {
            true => write_chunk(&mut self.bytes, data),
            false => self.bytes.extend_from_slice(data),
        }
        Ok(())
    }

    /// The body is whole.
    fn end(&mut self) {
        if !std::mem::replace(&mut self.is_taken, true) && self.chunked {
            self.bytes.extend_from_slice(LAST_CHUNK);
        }
    }

    /// Makes room for more: what is long is not kept.
    fn forget_beginning(&mut self, more: usize) {
        let bytes = self.bytes.len() + more;
        self.whole = self.whole && bytes <= REPLAY_MAX && self.share.reaches(bytes);
        if !self.whole {
            self.bytes.drain(..self.sent);
            self.sent = 0;
            self.bytes.shrink_to(self.bytes.len() + more);
            self.may_grow = self.share.reaches(self.bytes.len() + more);
        }
    }
}
