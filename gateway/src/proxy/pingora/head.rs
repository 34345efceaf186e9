//! A request's head in this engine: read as the `direct` engine reads it, and written as Pingora sends it on.

use pingora::Result;
use pingora::http::RequestHeader;

use crate::pipeline::Ctx;
use crate::proxy::http1::request::Request;
use crate::proxy::http2::head::StreamHead;
use crate::proxy::request_transfer::{REPLAY_MAX, each_own};
use crate::routing::head::Head;
use crate::routing::request_target::Target;
use crate::spans;
use colonnade_http1::Framing;

/// A head.
pub(super) enum ClientHead {
    /// Over HTTP/1.
    Http1(Box<Request>),
    /// Over HTTP/2.
    Http2(Box<StreamHead>),
}

impl ClientHead {
    fn as_head(&self) -> &dyn Head {
        match self {
            Self::Http1(head) => &**head,
            Self::Http2(head) => &**head,
        }
    }

    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Http1(head) => head.wire.framing,
            Self::Http2(head) => head.framing,
        }
    }

    pub(super) fn expects_continue(&self) -> bool {
        match self {
            Self::Http1(head) => head.wire.expects_continue,
            Self::Http2(head) => head.expects_continue,
        }
    }

    /// Whether it asks to speak WebSocket.
    pub(super) fn upgrade(&self) -> bool {
        matches!(self, Self::Http1(head) if head.wire.upgrade)
    }

    /// Whether the client knows HTTP/1.0 alone.
    pub(super) fn is_http10(&self) -> bool {
        matches!(self, Self::Http1(head) if !head.wire.http11)
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Whether the client would send another request on the connection.
    pub(super) fn keep_alive(&self) -> bool {
        match self {
            Self::Http1(head) => head.wire.keep_alive,
            Self::Http2(_) => true,
        }
    }

    /// Whether all of it will be kept, so that it can be sent again.
    fn will_be_whole(&self) -> bool {
        match self.framing() {
            Framing::Empty => true,
            Framing::Length(length) => length <= REPLAY_MAX as u64,
            Framing::Chunked => false,
        }
    }

    /// The head as a worker is sent it: without what belongs to the client's connection, with what the
    /// gateway adds.
    pub(super) fn for_worker(&self, ctx: &Ctx) -> Result<RequestHeader> {
        let mut wrong = None;
        let target = self.target().as_str().as_bytes();
        let mut sent = RequestHeader::build(self.method(), target, Some(16))?;
        let mut put = |name: &str, value: &[u8]| {
            if let Err(error) = sent.append_header(name.to_owned(), value) {
                wrong = Some(error);
            }
        };
        let traces = spans::headers(&ctx.span);
        let trace_goes_on = ctx.trace_goes_on && traces.is_empty();
        match self {
            Self::Http1(head) => {
                head.wire.passing(trace_goes_on).for_each(|(name, value)| put(name, value));
                if let Some(host) = head.wire.missing_host() {
                    put("host", host);
                }
                if head.wire.expects_continue {
                    put("expect", b"100-continue");
                }
            }
            Self::Http2(head) => head.each_passing(trace_goes_on, &mut put),
        }
        each_own(ctx, &traces, &mut |name, value| put(name, value.as_bytes()));
        let map_line = ctx.map_line().filter(|_| self.will_be_whole());
        if let Some((name, value)) = map_line.and_then(|line| line.trim_end().split_once(": ")) {
            put(name, value.as_bytes());
        }
        if self.framing() == Framing::Chunked {
            put("transfer-encoding", b"chunked");
        }
        if self.upgrade() {
            // Pingora would frame the body it is told of.
            put("content-length", b"0");
            put("connection", b"Upgrade");
            put("upgrade", b"websocket");
        }
        match wrong {
            Some(error) => Err(error),
            None => Ok(sent),
        }
    }
}

impl Head for ClientHead {
    fn method(&self) -> &str {
        self.as_head().method()
    }

    fn target(&self) -> &Target {
        self.as_head().target()
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.as_head().header(name)
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.as_head().all(name)
    }

    fn protocol(&self) -> &'static str {
        self.as_head().protocol()
    }
}
