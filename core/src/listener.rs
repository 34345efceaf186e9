//! Accepts connections, which speak HTTP/1.1 as the gateway does, and hands requests to the router,
//! until told to stop: then no new connections, and the requests under way are answered. Holds at most [`CONNECTIONS_MAX`]
//! connections; further ones wait in the system's queue.

use std::{net::IpAddr, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
};
use tokio_util::{either::Either, sync::CancellationToken};

use crate::front::Front;

/// Open connections at most: each long poll holds one, and each costs about 16 kB.
const CONNECTIONS_MAX: usize = 20_000;
/// How long a client may take to send its request's head, counted from when it could begin: so also
/// how long an idle connection is kept. Longer than the gateway keeps one, so that it closes first.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// The largest request line with headers, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take to finish once we were told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait after the system refused a connection (too many open files, most often).
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Socket {
    /// A TCP port.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl From<TcpListener> for Socket {
    fn from(socket: TcpListener) -> Self {
        Self::Tcp(socket)
    }
}

impl Socket {
    /// Accepts a connection; the peer's address if it has one.
    async fn accept(&self) -> std::io::Result<(Either<TcpStream, UnixStream>, Option<IpAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (connection, peer) = socket.accept().await?;
                let _slower_but_works = connection.set_nodelay(true);
                Ok((Either::Left(connection), Some(peer.ip())))
            }
            Self::Unix(socket) => Ok((Either::Right(socket.accept().await?.0), None)),
        }
    }
}

/// Serves a socket until `stop` is cancelled and the requests under way are answered.
pub async fn serve(socket: impl Into<Socket>, front: Arc<Front>, stop: CancellationToken) {
    let socket = socket.into();
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.max_buf_size(HEADER_BYTES_MAX);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (socket.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        let (connection, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(REFUSED_PAUSE).await;
                continue;
            }
        };
        let front = Arc::clone(&front);
        let service = service_fn(move |request| {
            let front = Arc::clone(&front);
            async move { Ok::<_, std::convert::Infallible>(front.answer(request, peer).await) }
        });
        let connection = server.serve_connection(TokioIo::new(connection), service);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(socket);
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await;
}
