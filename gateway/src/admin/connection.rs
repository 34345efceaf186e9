//! One connection to the admin listener as Pingora sees it, with what Pingora lacks: a deadline and a size for the
//! headers as a whole, a rest period between requests, a Matrix-shaped answer to what never became
//! a request, a lingering close, and no buffers while idle.
//!
//! Beside the stream of the `pingora` engine (`proxy/pingora/connection.rs`), which does the same at its edges, since
//! between them they differ: there a request is understood before Pingora reads it, for it goes on to a
//! worker and two readings of it must not part, and the stream shares with its requests what they need on the
//! way (a worker that dies, a switch of protocols, the end of an engine's term). Here Pingora's reading is the
//! only one, nothing goes on, and bytes and time are counted alone. So the admin listener answers, too, while
//! something is wrong with the reader that all clients depend on.
//!
//! Invariants:
//! 1. While no request has been accepted (phases Waiting and Head), nothing Pingora writes reaches
//!    the client: it could only be a bare error, and is replaced by ours at shutdown.
//! 2. Bytes read before the headers are complete never exceed the limit by more than one read.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::config::Limits;
use crate::metrics::{Metrics, Refused};
use crate::pipeline::reply::{self, Reply};
use crate::proxy::write_buffer::WriteBuffer;
use crate::upstream::transport::Transport;

/// One read may bring so much behind a head's end.
const BEHIND_HEAD_BYTES_MAX: u64 = 8 << 10;

/// After the last word the connection is drained this long, so that a client still sending reads
/// our answer instead of a reset. nginx lingers 5 s; an attacker pays less attention to us with 2.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes a lingering close reads and throws away at most.
const LINGER_BYTES_MAX: u64 = 1 << 20;

/// Between two requests; nothing of the next one has arrived.
const WAITING: u8 = 0;
/// Part of the next request's head has arrived.
const HEAD: u8 = 1;
/// A request is being served.
const REQUEST: u8 = 2;

/// What a connection and the requests on it share.
#[derive(Debug)]
pub(crate) struct Wire {
    phase: AtomicU8,
    /// Counts phases, so that a timer of one is never taken for that of another.
    turn: AtomicU32,
}

impl Wire {
    fn enter(&self, phase: u8) {
        self.phase.store(phase, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The headers are complete and the request is being served.
    pub(crate) fn serve_request(&self) {
        self.enter(REQUEST);
    }
}

/// Sizes and deadlines of a connection before a request is accepted on it.
#[derive(Debug, Clone, Copy)]
struct HeadLimits {
    bytes: u64,
    timeout: Duration,
    rest: Duration,
}

/// A client connection.
pub(crate) struct Connection {
    transport: WriteBuffer,
    wire: Arc<Wire>,
    digest: Arc<ProxyDigest>,
    limits: HeadLimits,
    metrics: Arc<Metrics>,
    head_bytes: u64,
    timer: Option<Pin<Box<Sleep>>>,
    timer_turn: u32,
    parting: Option<Reply>,
    lingering: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("wire", &self.wire).finish_non_exhaustive()
    }
}

impl Connection {
    /// Wraps an accepted transport.
    ///
    /// # Errors
    /// None in practice: the digest's placeholder header is built from a constant.
    pub(crate) fn new(
        transport: Transport,
        limits: &Limits,
        metrics: Arc<Metrics>,
    ) -> pingora::Result<Self> {
        let wire = Arc::new(Wire { phase: AtomicU8::new(WAITING), turn: AtomicU32::new(0) });
        let response = Box::new(pingora::http::ResponseHeader::build(200, Some(0))?);
        let shared: Box<dyn std::any::Any + Send + Sync> = Box::new(Arc::clone(&wire));
        Ok(Self {
            transport: WriteBuffer::new(transport),
            digest: Arc::new(ProxyDigest::new(response, Some(shared))),
            wire,
            limits: HeadLimits {
                bytes: limits.header_bytes,
                timeout: limits.header_timeout,
                rest: limits.keepalive_timeout,
            },
            metrics,
            head_bytes: 0,
            timer: None,
            timer_turn: 0,
            parting: None,
            lingering: false,
        })
    }

    fn phase(&self) -> u8 {
        self.wire.phase.load(Ordering::Relaxed)
    }

    /// Gives up on whatever was arriving; the reply is sent when the connection is shut down.
    fn give_up(&mut self, reply: Reply, why: Refused) -> io::Error {
        if self.parting.is_none() {
            self.parting = Some(reply);
            self.metrics.refused(why);
        }
        io::Error::new(io::ErrorKind::TimedOut, reply.error)
    }

    /// Nothing arrives: is the time up?
    fn poll_timer(&mut self, cx: &mut Context<'_>, phase: u8) -> Poll<io::Result<()>> {
        let turn = self.wire.turn.load(Ordering::Relaxed);
        let patience = if phase == WAITING { self.limits.rest } else { self.limits.timeout };
        match &mut self.timer {
            Some(_) if self.timer_turn == turn => {}
            Some(timer) => timer.as_mut().reset(Instant::now() + patience),
            None => self.timer = Some(Box::pin(sleep(patience))),
        }
        self.timer_turn = turn;
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        match phase {
            // The end of file is all an idle client needs to see.
            WAITING => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(self.give_up(reply::TOO_SLOW, Refused::TooSlow))),
        }
    }

    /// Counts what arrived of a request's head.
    fn count_head(&mut self, phase: u8, read: usize) -> io::Result<()> {
        if read == 0 {
            return Ok(());
        }
        if phase == WAITING {
            self.head_bytes = 0;
            self.wire.enter(HEAD);
        }
        self.head_bytes += read as u64;
        // One read may bring the head's end and some body with it; the head alone is measured
        // again when it is known.
        if self.head_bytes > self.limits.bytes + BEHIND_HEAD_BYTES_MAX {
            return Err(self.give_up(reply::HEADER_TOO_LARGE, Refused::HeaderTooLarge));
        }
        Ok(())
    }

    /// Throws away what the client still sends, until it closes or the patience ends.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if !self.lingering {
            self.lingering = true;
            self.head_bytes = 0;
            timer.as_mut().reset(Instant::now() + LINGER);
        }
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut scrap = [0u8; 4096];
        while self.head_bytes < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.transport).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => self.head_bytes += buf.filled().len() as u64,
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let phase = this.phase();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.transport).poll_read(cx, buf);
        if phase == REQUEST {
            return read;
        }
        match read {
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                Poll::Ready(this.count_head(phase, read))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_timer(cx, phase),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.phase() != REQUEST {
            // Invariant 1. The status Pingora chose is kept, its bare body is not.
            let status = buf.get(9..12).and_then(|s| std::str::from_utf8(s).ok());
            let status = status.and_then(|s| s.parse().ok()).unwrap_or(400);
            let _error = this.give_up(Reply::for_status(status), Refused::Malformed);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut this.transport).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(reply) = this.parting.take() {
            this.transport.replace(&reply.parting_bytes());
        }
        if !this.lingering {
            ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
        }
        this.poll_linger(cx).map(Ok)
    }
}

#[async_trait]
impl Shutdown for Connection {
    async fn shutdown(&mut self) {
        let closed = std::future::poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx));
        // A client that neither reads nor closes is not waited for.
        let _gone = tokio::time::timeout(LINGER, closed).await;
    }
}

impl UniqueID for Connection {
    fn id(&self) -> UniqueIDType {
        self.transport.raw_fd()
    }
}

impl Ssl for Connection {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        None
    }
}

impl Peek for Connection {}

impl GetTimingDigest for Connection {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Connection {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

impl GetSocketDigest for Connection {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

/// Finds the connection a request came in on.
pub(crate) fn wire_of(digest: Option<&pingora::protocols::Digest>) -> Option<&Arc<Wire>> {
    digest?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}
