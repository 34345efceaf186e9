//! The byte streams clients come in on, and workers are reached by: TCP, unix sockets, and, for clients,
//! TLS over either.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::config::Address;

/// The protocol name by which TLS peers agree on HTTP/2.
pub const ALPN_HTTP2: &[u8] = b"h2";

/// The protocol name by which they agree on HTTP/1.1.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";

/// A stream in clear.
#[derive(Debug)]
pub enum Plain {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A stream, encrypted or not.
#[derive(Debug)]
pub enum Transport {
    /// In clear.
    Plain(Plain),
    /// Encrypted.
    Tls(Box<TlsStream<Plain>>),
}

impl Plain {
    /// Opens a connection to a worker.
    ///
    /// # Errors
    /// Whatever the system says.
    pub(crate) async fn connect(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Address::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
        }
    }

    fn raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(stream) => stream.as_raw_fd(),
            Self::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl Transport {
    /// The file descriptor underneath.
    pub fn raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(plain) => plain.raw_fd(),
            Self::Tls(tls) => tls.get_ref().0.raw_fd(),
        }
    }

    /// Says whether the peers agreed on HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2),
        }
    }

    /// Has the connection reset when it is dropped, so that the client cannot take what it got for the whole.
    pub(crate) fn abort(&self) {
        let plain = match self {
            Self::Plain(plain) => plain,
            // Without the word that ends it, an encrypted stream is visibly cut off.
            Self::Tls(tls) => tls.get_ref().0,
        };
        if let Plain::Tcp(stream) = plain {
            let _closed = stream.set_zero_linger();
        }
    }

    /// Says whether the stream is encrypted.
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// Passes every call on to whichever stream it is.
macro_rules! each {
    ($self:ident, $type:ident { $($variant:ident),+ }, $stream:ident => $call:expr) => {
        match $self.get_mut() { $($type::$variant($stream) => $call),+ }
    };
}

macro_rules! streams {
    ($type:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each!(self, $type { $($variant),+ }, s => Pin::new(s).poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                each!(self, $type { $($variant),+ }, s => Pin::new(s).poll_write(cx, buf))
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $type { $($variant),+ }, s => Pin::new(s).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!(self, $type { $($variant),+ }, s => Pin::new(s).poll_shutdown(cx))
            }
        }
    };
}

streams!(Plain { Tcp, Unix });
streams!(Transport { Plain, Tls });
