//! Accepts connections, which speak HTTP/1.1 as the gateway does, and hands requests to the router,
//! until told to stop: then no new connections, and the requests under way are answered. Holds at most [`CONNECTIONS_MAX`]
//! connections; further ones wait in the system's queue.
//!
//! Who closes a connection that rests may do so just when a request comes in on it, and nobody knows then
//! whether it was read. So a worker that is about to leave first answers on the connections it has, each time
//! with `Connection: close`, until all are used up ([`Ending::leave`]).

pub mod request_pipeline;
pub(crate) mod slow;
pub(crate) mod unread;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use colonnade_users::answers::Holding;
use futures_util::FutureExt as _;
use http::{HeaderValue, header::CONNECTION};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{either::Either, sync::CancellationToken};

use crate::listener::{
    request_pipeline::Front,
    slow::{Held, Impatient},
    unread::{Lingering, Unread},
};

/// Open connections at most: each long poll holds one, and each costs about 16 kB.
const CONNECTIONS_MAX: usize = 20_000;
/// How long a client may take to send its request's head, counted from when it could begin: so also
/// how long an idle connection is kept. Longer than the gateway keeps one, so that it closes first.
const HEADER_TIMEOUT: Duration = Duration::from_secs(120);
/// The largest request line with headers, in bytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may take to finish once we were told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connections that rest are given to be used once more before they are closed. With much to do
/// they are soon; with little it is unlikely that one is just then.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// How often it is looked whether any rests still.
const LEAVE_LOOK: Duration = Duration::from_millis(10);
/// How long to wait after the system refused a connection (too many open files, most often).
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_millis(50);

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

/// How serving a socket comes to its end.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    leaving: CancellationToken,
    left: CancellationToken,
    stop: CancellationToken,
}

impl Ending {
    /// Accepts nothing any more, and waits until no connection rests, or for a while.
    pub async fn leave(&self) {
        self.leaving.cancel();
        self.left.cancelled().await;
    }

    /// Closes the connections that rest, and the others once their request is answered.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// Serves a socket until `stop` is cancelled and the requests under way are answered.
pub async fn serve(socket: impl Into<Socket>, front: Arc<Front>, stop: CancellationToken) {
    serve_to(socket, front, Ending { stop, ..Ending::default() }).await;
}

/// Serves a socket to its end.
pub async fn serve_to(socket: impl Into<Socket>, front: Arc<Front>, ending: Ending) {
    let socket = socket.into();
    let serving = Serving::new(front, ending.leaving.clone());
    loop {
        let accepted = async {
            let place = Arc::clone(&serving.places).acquire_owned().await;
            (socket.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = ending.leaving.cancelled() => break,
            () = ending.stop.cancelled() => break,
        };
        match accepted {
            Ok((connection, peer)) => serving.begin(connection, peer, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
    if ending.leaving.is_cancelled() {
        // Those who stand in the queue already.
        while let Some(Ok((connection, peer))) = socket.accept().now_or_never() {
            let Ok(place) = Arc::clone(&serving.places).try_acquire_owned() else { break };
            serving.begin(connection, peer, Ok(place));
        }
        drop(socket);
        let _some_rest = tokio::time::timeout(LEAVE_MAX, serving.until_none_rests()).await;
        ending.left.cancel();
        ending.stop.cancelled().await;
    }
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, serving.graceful.shutdown()).await;
}

/// What the connections share.
struct Serving {
    front: Arc<Front>,
    server: http1::Builder,
    places: Arc<Semaphore>,
    graceful: GracefulShutdown,
    leaving: CancellationToken,
    /// Requests that are being answered.
    under_way: Arc<AtomicUsize>,
}

impl Serving {
    fn new(front: Arc<Front>, leaving: CancellationToken) -> Self {
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        server.max_buf_size(HEADER_BYTES_MAX);
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (graceful, under_way) = (GracefulShutdown::new(), Arc::default());
        Self { front, server, places, graceful, leaving, under_way }
    }

    /// Serves a connection on a task of its own, which keeps its place.
    fn begin(
        &self,
        connection: Either<TcpStream, UnixStream>,
        peer: Option<IpAddr>,
        place: Result<OwnedSemaphorePermit, AcquireError>,
    ) {
        let (front, leaving) = (Arc::clone(&self.front), self.leaving.clone());
        let under_way = Arc::clone(&self.under_way);
        let lingers = Arc::new(AtomicBool::new(false));
        let held = Held::default();
        let connection = Impatient::new(connection, Arc::clone(&held));
        let connection = Lingering::new(connection, Arc::clone(&lingers));
        let service = service_fn(move |request| {
            let (front, leaving) = (Arc::clone(&front), leaving.clone());
            let (lingers, held) = (Arc::clone(&lingers), Arc::clone(&held));
            let counted = Counted::new(&under_way);
            async move {
                let mut reply = front.answer(request, peer).await;
                drop(counted);
                *held.lock() = reply.extensions_mut().remove::<Holding>().unwrap_or_default();
                let unread = reply.extensions().get::<Unread>().is_some();
                lingers.fetch_or(unread, Ordering::AcqRel);
                if unread || leaving.is_cancelled() {
                    reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(reply)
            }
        });
        let connection = self.server.serve_connection(TokioIo::new(connection), service);
        let connection = self.graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }

    /// Waits until every open connection has a request under way.
    async fn until_none_rests(&self) {
        while self.graceful.count() > self.under_way.load(Ordering::Acquire) {
            tokio::time::sleep(LEAVE_LOOK).await;
        }
    }
}

/// Counts a request as long as it is answered, also when that is given up.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
