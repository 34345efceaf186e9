//! A transport on which small writes leave together: an answer's head and a short body are one packet, and
//! larger writes go straight through. Nothing leaves before a flush, a shutdown or a write that is too much.

use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::transport::Transport;

/// Writes are gathered up to this many bytes.
const GATHER_BYTES_MAX: usize = 8 << 10;

/// A transport, and what has been written and has not left yet.
#[derive(Debug)]
pub(crate) struct WriteBuffer {
    transport: Transport,
    gathered: BytesMut,
}

impl WriteBuffer {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, gathered: BytesMut::new() }
    }

    /// The file descriptor underneath.
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.transport.raw_fd()
    }

    /// Has the connection reset when it is dropped.
    pub(crate) fn abort(&self) {
        self.transport.abort();
    }

    /// Has these bytes leave instead of those that have not left yet.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        self.gathered = BytesMut::from(bytes);
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let wrote = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.gathered))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(wrote);
        }
        // Given back, not kept: an idle connection owns no buffer.
        self.gathered = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for WriteBuffer {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for WriteBuffer {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.gathered.len() + buf.len() <= GATHER_BYTES_MAX {
            this.gathered.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.transport).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.transport).poll_shutdown(cx)
    }
}
