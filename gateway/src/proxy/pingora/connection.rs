//! A client's connection as Pingora reads and writes it. On HTTP/1 our own reader stands before Pingora's: what
//! Pingora is given has been understood by `colonnade-http1`, a head within its size and time, then exactly its
//! body, in framing of our own. So the two engines refuse the same, and nothing one of them would take for
//! another request ever gets through.
//!
//! Invariants:
//! 1. Until a head has become a request, nothing Pingora writes reaches the client: it could only be a bare
//!    error, and is replaced by ours at shutdown.
//! 2. Behind a request nothing is given until the next one may come; what the client sends ahead waits here,
//!    up to a limit.
//! 3. A connection that rests owns no buffer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::{Phase, SharedConnection};
use crate::config::Limits;
use crate::metrics::{Metrics, Refused};
use crate::pipeline::reply::{self, Reply};
use crate::pipeline::{REFUSED_DRAIN, REFUSED_DRAIN_BYTES_MAX};
use crate::proxy::http1::client::AHEAD_BYTES_MAX;
use crate::proxy::http1::head_search::HeadSearch;
use crate::proxy::http1::request::Request;
use crate::proxy::timer::Timer;
use crate::proxy::write_buffer::WriteBuffer;
use crate::upstream::idle::poll_read_with;
use crate::upstream::transport::Transport;
use colonnade_http1::{BadBody, Body, LAST_CHUNK, write_chunk};

/// How much is read from a client at once.
const READ_BYTES: usize = 16 << 10;

/// No more of a body is understood ahead of Pingora's reading.
const UNDERSTOOD_BYTES_MAX: usize = 32 << 10;

/// What Pingora is given instead of a head that is refused: it ends the connection for it, in order.
const NO_HEAD: &[u8] = b"?\r\n\r\n";

/// How every connection of HTTP/2 begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sizes and deadlines of a connection before a request is read on it.
#[derive(Debug, Clone, Copy)]
struct HeadLimits {
    bytes: u64,
    timeout: Duration,
    rest: Duration,
}

/// A client's connection.
pub(super) struct StrictStream {
    transport: WriteBuffer,
    http2: bool,
    shared: Arc<SharedConnection>,
    digest: Arc<ProxyDigest>,
    limits: HeadLimits,
    metrics: Arc<Metrics>,
    /// What has come and is not understood yet.
    input: Vec<u8>,
    /// What has been, and Pingora has not read yet.
    understood: Bytes,
    search: HeadSearch,
    in_head: bool,
    body: Body,
    chunked: bool,
    /// Whether Pingora waits for the end of a body that the client has not sent.
    endless: bool,
    timer: Timer,
    turn: u32,
    /// How much of HTTP/2's preface has come.
    preface: usize,
    parting: Option<Reply>,
    shut: bool,
    lingered: usize,
}

impl std::fmt::Debug for StrictStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StrictStream").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Drop for StrictStream {
    fn drop(&mut self) {
        if self.shared.is_aborting() {
            self.transport.abort();
        }
    }
}

impl StrictStream {
    /// Wraps an accepted transport.
    ///
    /// # Errors
    /// None in practice: the digest's placeholder header is built from a constant.
    pub(super) fn new(
        transport: Transport,
        limits: &Limits,
        shared: Arc<SharedConnection>,
        metrics: Arc<Metrics>,
    ) -> pingora::Result<Self> {
        let response = Box::new(pingora::http::ResponseHeader::build(200, Some(0))?);
        let data: Box<dyn std::any::Any + Send + Sync> = Box::new(Arc::clone(&shared));
        let first =
            if transport.speaks_http2() { limits.header_timeout } else { limits.keepalive_timeout };
        Ok(Self {
            http2: transport.speaks_http2(),
            transport: WriteBuffer::new(transport),
            digest: Arc::new(ProxyDigest::new(response, Some(data))),
            shared,
            limits: HeadLimits {
                bytes: limits.header_bytes,
                timeout: limits.header_timeout,
                rest: limits.keepalive_timeout,
            },
            metrics,
            input: Vec::new(),
            understood: Bytes::new(),
            search: HeadSearch::default(),
            in_head: false,
            body: Body::Done,
            chunked: false,
            endless: false,
            timer: Timer::new(first),
            turn: 0,
            preface: 0,
            parting: None,
            shut: false,
            lingered: 0,
        })
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { transport, input, .. } = self;
        poll_read_with::<_, _, READ_BYTES>(transport, cx, |came| {
            input.extend_from_slice(came);
            came.len()
        })
    }

    /// Refuses what never became a request; the reply is sent when the connection is shut down.
    fn give_up(&mut self, reply: Reply, why: Refused) {
        if self.parting.is_none() {
            self.parting = Some(reply);
            self.metrics.refused(why);
        }
        self.understood = Bytes::from_static(NO_HEAD);
    }

    /// Looks for the next head; whether there is something to give, or else the connection has ended.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.turn != self.shared.turn() {
            self.turn = self.shared.turn();
            self.search = HeadSearch::default();
            self.in_head = false;
            self.timer.set(self.limits.rest);
        }
        loop {
            if !self.input.is_empty() {
                if !std::mem::replace(&mut self.in_head, true) {
                    self.timer.set(self.limits.timeout);
                }
                match self.search.find(&mut self.input, self.limits.bytes) {
                    Some(Ok(head)) => self.read_head(head),
                    Some(Err((reply, why))) => self.give_up(reply, why),
                    None => {}
                }
                if !self.understood.is_empty() {
                    return Poll::Ready(Ok(true));
                }
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return self.poll_end(cx),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
            if self.shared.ending.is_over() {
                return self.poll_end(cx);
            }
        }
        ready!(self.timer.poll(cx));
        if !self.in_head {
            // The end is all a client that rests needs to see.
            return self.poll_end(cx);
        }
        self.give_up(reply::TOO_SLOW, Refused::TooSlow);
        Poll::Ready(Ok(true))
    }

    /// Ends the connection in order.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let _gone = ready!(Pin::new(&mut self.transport).poll_shutdown(cx));
        Poll::Ready(Ok(false))
    }

    fn read_head(&mut self, bytes: Vec<u8>) {
        let raw = Bytes::from(bytes.clone());
        match Request::parse(bytes) {
            Ok(head) => {
                self.body = Body::from(head.wire.framing);
                self.chunked = matches!(self.body, Body::Chunked(_));
                self.endless = head.wire.upgrade;
                self.understood = if self.endless { with_endless_body(&raw) } else { raw };
                self.shared.has_read(head);
            }
            Err(reply) => self.give_up(reply, Refused::of_head(reply)),
        }
    }

    /// Reads on in a request: its body, and then whether the client is still there.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.shared.poll_marked_down(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
        }
        if self.shared.is_declined() && std::mem::take(&mut self.endless) {
            self.understood = Bytes::from_static(LAST_CHUNK);
            return Poll::Ready(Ok(true));
        }
        loop {
            if self.shared.has_switched() && !self.input.is_empty() {
                self.understood = std::mem::take(&mut self.input).into();
                return Poll::Ready(Ok(true));
            }
            if !self.body.is_done() && !self.input.is_empty() {
                if self.read_body().is_err() {
                    self.shared.note_malformed();
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                if !self.understood.is_empty() {
                    return Poll::Ready(Ok(true));
                }
            }
            let ahead = self.body.is_done() && !self.shared.has_switched();
            if self.shared.is_answered() && !self.body.is_done() {
                // Nobody wants the rest of the body.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if ahead && self.input.len() >= AHEAD_BYTES_MAX {
                return Poll::Pending;
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Ok(false)),
                Ok(_) => {}
            }
        }
    }

    /// Takes the body out of its framing, and puts it into ours.
    fn read_body(&mut self) -> Result<(), BadBody> {
        let (mut taken, mut out) = (0, Vec::new());
        while !self.body.is_done() && out.len() < UNDERSTOOD_BYTES_MAX {
            let (count, data) = self.body.next(&self.input[taken..])?;
            if count == 0 {
                break;
            }
            taken += count;
            match self.chunked {
                true => write_chunk(&mut out, data),
                false => out.extend_from_slice(data),
            }
        }
        self.input.drain(..taken);
        if self.body.is_done() {
            if self.chunked {
                out.extend_from_slice(LAST_CHUNK);
            }
            self.input.shrink_to_fit();
        }
        self.understood = out.into();
        Ok(())
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.understood.len().min(buf.remaining());
        buf.put_slice(&self.understood.split_to(count));
        if self.understood.is_empty() {
            self.understood = Bytes::new();
        }
    }

    fn poll_read_http2(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.shared.client.is_flooded() {
            self.metrics.refused(Refused::Flood);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buf);
        if self.preface == PREFACE.len() {
            return read;
        }
        if read.is_pending() {
            ready!(self.timer.poll(cx));
            self.metrics.refused(Refused::TooSlow);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let came = &buf.filled()[before..];
        let came = &came[..came.len().min(PREFACE.len() - self.preface)];
        if PREFACE[self.preface..].starts_with(came) && !came.is_empty() {
            self.preface += came.len();
            return read;
        }
        self.metrics.refused(Refused::Malformed);
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }

    /// Throws away what the client still sends, until it closes or the patience ends.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.input = Vec::new();
        while self.lingered < REFUSED_DRAIN_BYTES_MAX {
            if self.timer.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let read = poll_read_with::<_, _, READ_BYTES>(&mut self.transport, cx, <[u8]>::len);
            match ready!(read) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(came) => self.lingered += came,
            }
        }
        Poll::Ready(())
    }
}

/// A head that asks to switch protocols, as Pingora is given it: as if a body followed. Pingora takes the end of
/// a request's body for the end of the tunnel where the worker has switched before it is told of that end.
fn with_endless_body(head: &Bytes) -> Bytes {
    [&head[..head.len() - 2], b"transfer-encoding: chunked\r\n\r\n"].concat().into()
}

impl AsyncRead for StrictStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.http2 {
            return this.poll_read_http2(cx, buf);
        }
        if this.understood.is_empty() {
            let step = match this.shared.phase() {
                Phase::Waiting => this.poll_head(cx),
                Phase::Read | Phase::Served => this.poll_request(cx),
            };
            if !ready!(step)? {
                return Poll::Ready(Ok(()));
            }
        }
        this.give(buf);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StrictStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !this.http2 && this.shared.phase() != Phase::Served {
            // Invariant 1. The status Pingora chose is kept, its bare body is not.
            if this.parting.is_none() {
                let status = buf.get(9..12).and_then(|s| std::str::from_utf8(s).ok());
                let status = status.and_then(|s| s.parse().ok()).unwrap_or(400);
                this.parting = Some(Reply::for_status(status));
                this.metrics.refused(Refused::Malformed);
            }
            return Poll::Ready(Ok(buf.len()));
        }
        if this.shared.holds_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.transport).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.is_aborting() {
            return Poll::Ready(Ok(()));
        }
        if let Some(reply) = this.parting.take() {
            this.transport.replace(&reply.parting_bytes());
        }
        if !this.shut {
            ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
            this.shut = true;
            this.timer.set(REFUSED_DRAIN);
        }
        this.poll_linger(cx).map(Ok)
    }
}

#[async_trait]
impl Shutdown for StrictStream {
    async fn shutdown(&mut self) {
        let closed = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx));
        // A client that neither reads nor closes is not waited for.
        let _gone = tokio::time::timeout(REFUSED_DRAIN, closed).await;
    }
}

impl UniqueID for StrictStream {
    fn id(&self) -> UniqueIDType {
        self.transport.raw_fd()
    }
}

impl Ssl for StrictStream {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.then_some(ALPN::H2)
    }
}

impl Peek for StrictStream {}

impl GetTimingDigest for StrictStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for StrictStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for StrictStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
