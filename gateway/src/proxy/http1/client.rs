//! The client's side of a connection: what it sent and nobody has read yet, what it has not taken yet,
//! its one deadline, and how it ends.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::head_search::HeadSearch;
use crate::config::Limits;
use crate::metrics::Refused;
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::pipeline::reply::{self, Reply};
use crate::pipeline::{REFUSED_DRAIN, REFUSED_DRAIN_BYTES_MAX};
use crate::proxy::timer::Timer;
use crate::upstream::idle::poll_read_with;
use crate::upstream::transport::Transport;

/// How much is read from a client at once.
const READ_BYTES: usize = 16 << 10;

/// What a client may send ahead while it waits; then it is no longer looked at until its turn.
pub(crate) const AHEAD_BYTES_MAX: usize = 16 << 10;

/// A connection.
pub(crate) struct Client {
    transport: Transport,
    /// Who is at the other end.
    pub(crate) peer: IpAddr,
    /// Whether it is encrypted.
    pub(crate) tls: bool,
    /// What has come and has not been looked at.
    pub(crate) input: Vec<u8>,
    /// What is to be sent, from `sent` on.
    pub(crate) output: Vec<u8>,
    sent: usize,
    unflushed: bool,
    /// The deadline of whatever is waited for.
    pub(crate) timer: Timer,
    /// Tells when the connection is to end.
    pub(crate) ending: Arc<GracefulShutdown>,
}

/// What comes next on a connection.
pub(crate) enum Next {
    /// A head.
    Head(Vec<u8>),
    /// Nothing: it has ended, or rested long enough.
    End,
    /// Something that is refused.
    Refused(Reply, Refused),
}

impl Client {
    pub(crate) fn new(
        transport: Transport,
        peer: IpAddr,
        limits: &Limits,
        ending: Arc<GracefulShutdown>,
    ) -> Self {
        Self {
            tls: transport.is_encrypted(),
            transport,
            peer,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            unflushed: false,
            timer: Timer::new(limits.keepalive_timeout),
            ending,
        }
    }

    /// Reads more input; how much came, 0 at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { transport, input, .. } = self;
        poll_read_with::<_, _, READ_BYTES>(transport, cx, |came| {
            input.extend_from_slice(came);
            came.len()
        })
    }

    /// Ready when the client is gone. What it sends meanwhile is kept, up to a limit: beyond that its going
    /// is not noticed.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.len() < AHEAD_BYTES_MAX {
            if let Ok(0) | Err(_) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// How much waits to be taken by the client.
    pub(crate) fn pending(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends what waits.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.output.len() {
            let rest = &self.output[self.sent..];
            let wrote = ready!(Pin::new(&mut self.transport).poll_write(cx, rest))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += wrote;
            // What is in clear has nothing behind it to flush.
            self.unflushed = self.tls;
        }
        self.output.clear();
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(&mut self.transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Sends what waits, as long as the client takes some of it within `patience`.
    ///
    /// # Errors
    /// When it is gone, or takes nothing.
    pub(crate) async fn drain(&mut self, patience: Duration) -> io::Result<()> {
        self.timer.set(patience);
        let mut pending = self.pending();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(drained) = self.poll_drain(cx) {
                return Poll::Ready(drained);
            }
            if self.pending() != pending {
                pending = self.pending();
                self.timer.set(patience);
            }
            ready!(self.timer.poll(cx));
            Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
        })
        .await
    }

    /// Waits for the next head.
    pub(crate) async fn next_head(&mut self, limits: &Limits) -> Next {
        let mut search = HeadSearch::default();
        let mut in_head = false;
        let mut looked_at = 0;
        self.timer.set(limits.keepalive_timeout);
        std::future::poll_fn(|cx| {
            loop {
                if self.input.len() > looked_at {
                    if !in_head {
                        in_head = true;
                        self.timer.set(limits.header_timeout);
                    }
                    match search.find(&mut self.input, limits.header_bytes) {
                        Some(Ok(head)) => return Poll::Ready(Next::Head(head)),
                        Some(Err((reply, why))) => return Poll::Ready(Next::Refused(reply, why)),
                        None => {}
                    }
                    looked_at = self.input.len();
                }
                match self.poll_fill(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            if self.input.is_empty() {
                // Given back, not kept: a connection that rests owns no buffer.
                self.input = Vec::new();
                self.output = Vec::new();
                if self.ending.is_over() {
                    return Poll::Ready(Next::End);
                }
            }
            ready!(self.timer.poll(cx));
            Poll::Ready(match in_head {
                // The end is all a client that rests needs to see.
                false => Next::End,
                true => Next::Refused(reply::TOO_SLOW, Refused::TooSlow),
            })
        })
        .await
    }

    /// Ends the connection; what it still sends is thrown away for a while where `lingering`.
    pub(crate) async fn close(mut self, lingering: bool) {
        self.input = Vec::new();
        self.timer.set(REFUSED_DRAIN);
        let mut left = REFUSED_DRAIN_BYTES_MAX;
        let mut shut = false;
        std::future::poll_fn(|cx| {
            if self.timer.poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !shut {
                let drained = ready!(self.poll_drain(cx));
                let closed = ready!(Pin::new(&mut self.transport).poll_shutdown(cx));
                if drained.is_err() || closed.is_err() || !lingering {
                    return Poll::Ready(());
                }
                shut = true;
            }
            loop {
                let read = poll_read_with::<_, _, READ_BYTES>(&mut self.transport, cx, <[u8]>::len);
                match ready!(read) {
                    Ok(0) | Err(_) => return Poll::Ready(()),
                    Ok(came) if came >= left => return Poll::Ready(()),
                    Ok(came) => left -= came,
                }
            }
        })
        .await;
    }

    /// Ends the connection so that the client cannot take what it got for the whole.
    pub(crate) fn abort(self) {
        self.transport.abort();
    }
}
