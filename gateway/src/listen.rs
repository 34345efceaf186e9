//! Sockets: bound before anything else runs, so that a port in use is an error of the start; then
//! one accept loop each, which counts connections and hands them on.

pub(crate) mod gate;
pub(crate) mod handover;
pub mod proxy_protocol;
pub(crate) mod tls;

use std::fs::Permissions;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::ServerApp;
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::admin::AdminServer;
use crate::admin::connection::Connection;
use crate::config::{Address, Engine};
use crate::listen::gate::{Gate, OpenConnection};
use crate::listen::proxy_protocol::Parsed;
use crate::metrics::Refused;
use crate::pipeline::Gateway;
use crate::pipeline::active_config::ActiveConfig;
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::proxy::pingora::PingoraProxy;
use crate::proxy::{http1, http2};
use crate::upstream::transport::{Plain, Transport};

/// How many connections the kernel may hold for us before they are accepted.
const BACKLOG: u32 = 1024;

/// How long the accept loop rests when the process has no file descriptor left.
const NO_DESCRIPTOR_REST: Duration = Duration::from_millis(100);

/// The rights of a unix socket, whatever the umask is: who is in our group connects, as what stands before
/// the gateway does.
const SOCKET_MODE: u32 = 0o660;
/// Connections to the admin listener: a person, Prometheus, and what they forgot to close.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// How long to rest when only part of a PROXY header has come; it is sent in one piece, nearly
/// always.
const PARTIAL_REST: Duration = Duration::from_millis(5);

/// A socket that listens.
pub(crate) enum Bound {
    /// On TCP.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

impl Bound {
    /// Binds a socket; must be called inside a runtime.
    ///
    /// # Errors
    /// Whatever the system says: mostly that the port is taken or not allowed.
    pub(crate) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let socket = match address {
                    SocketAddr::V4(_) => TcpSocket::new_v4()?,
                    SocketAddr::V6(_) => TcpSocket::new_v6()?,
                };
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                socket.listen(BACKLOG).map(Self::Tcp)
            }
            Address::Unix(path) => {
                let bound = match UnixListener::bind(path) {
                    // A file nobody listens at is what an ended process left behind.
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        if std::os::unix::net::UnixStream::connect(path).is_ok() {
                            return Err(error);
                        }
                        std::fs::remove_file(path)?;
                        UnixListener::bind(path)?
                    }
                    bound => bound?,
                };
                std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
                Ok(Self::Unix(bound))
            }
        }
    }

    /// Listens on with a socket another process has bound to this address; must be called inside a
    /// runtime.
    ///
    /// # Errors
    /// None in practice: the socket listens already.
    pub(crate) fn inherit(address: &Address, socket: OwnedFd) -> io::Result<Self> {
        match address {
            Address::Tcp(_) => {
                let listener = std::net::TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
            Address::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(socket);
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// Another descriptor of the same socket, to hand to another process.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    /// The TCP address it got, if it is one.
    pub(crate) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<(Plain, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Without it an answer's last piece waits for an acknowledgement.
                stream.set_nodelay(true)?;
                Ok((Plain::Tcp(stream), peer.ip()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Plain::Unix(stream), IpAddr::V4(Ipv4Addr::LOCALHOST)))
            }
        }
    }
}

/// What happens to a connection between the socket and the first request.
#[derive(Clone, Default)]
pub(crate) struct ListenerSetup {
    /// How it is encrypted, if it is.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Whether a PROXY protocol header comes first.
    pub(crate) proxy_protocol: bool,
}

/// What carries requests of clients to workers.
pub(crate) struct Proxies {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) pingora: PingoraProxy,
}

/// Who serves what comes through.
#[derive(Clone)]
pub(crate) enum Served {
    /// Requests of clients, carried by the engine of the listener.
    Proxy(Arc<Proxies>, Term),
    /// The admin listener: nothing the file says about clients may close a connection there.
    Admin(Arc<AdminServer>),
}

/// The time in which new connections of a listener go to one engine. With the engine the term changes; the
/// connections of the one before end with the answers to their next requests.
#[derive(Clone)]
pub(crate) struct Term {
    engines: watch::Receiver<Engine>,
    engine: Engine,
    ending: Arc<GracefulShutdown>,
}

impl Term {
    /// The first term of a listener whose engine is told here.
    pub(crate) fn new(gateway: &Gateway, mut engines: watch::Receiver<Engine>) -> Self {
        let engine = *engines.borrow_and_update();
        Self { engines, engine, ending: gateway.graceful_shutdown.part() }
    }
}

impl Served {
    /// Waits until another term has begun.
    async fn next_term(&mut self) {
        let Self::Proxy(proxies, term) = self else { return std::future::pending().await };
        if term.engines.changed().await.is_err() {
            // Nobody reloads any more.
            return std::future::pending().await;
        }
        term.ending.announce();
        *term = Term::new(&proxies.gateway, term.engines.clone());
    }
}

impl ListenerSetup {
    /// Takes a connection through; what is wrong with it is an error nobody else needs to see.
    async fn pass(
        &self,
        mut plain: Plain,
        mut peer: IpAddr,
        live: &ActiveConfig,
    ) -> io::Result<(Transport, IpAddr)> {
        let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        if self.proxy_protocol {
            if !live.config.trusts(peer) {
                return Err(wrong("a PROXY header from a peer that is not trusted"));
            }
            let Plain::Tcp(stream) = &mut plain else { return Err(wrong("not a TCP socket")) };
            peer = read_proxy_header(stream).await?.unwrap_or(peer);
        }
        match &self.tls {
            None => Ok((Transport::Plain(plain), peer)),
            Some(acceptor) => {
                let stream = acceptor.accept(plain).await?;
                Ok((Transport::Tls(Box::new(stream)), peer))
            }
        }
    }
}

/// Takes the header off the stream, and not one byte more.
async fn read_proxy_header(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut bytes = [0; proxy_protocol::HEADER_LEN_MAX];
    loop {
        let peeked = stream.peek(&mut bytes).await?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match proxy_protocol::parse(&bytes[..peeked]) {
            Parsed::Whole { length, client } => {
                stream.read_exact(&mut bytes[..length]).await?;
                return Ok(client);
            }
            Parsed::Wrong => return Err(io::Error::new(io::ErrorKind::InvalidData, "no header")),
            // What was peeked at is still there, so waiting to read would not wait.
            Parsed::Partial => tokio::time::sleep(PARTIAL_REST).await,
        }
    }
}

/// Accepts connections until the shutdown begins.
pub(crate) async fn accept_loop(
    bound: Bound,
    entrance: ListenerSetup,
    mut served: Served,
    live: Arc<ArcSwap<ActiveConfig>>,
    gate: Arc<Gate>,
    mut shutdown: ShutdownWatch,
) {
    loop {
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            _closing = shutdown.wait_for(|closing| *closing) => return,
            () = served.next_term() => continue,
        };
        let (plain, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(NO_DESCRIPTOR_REST).await;
                continue;
            }
        };
        let live = live.load_full();
        let max = match served {
            Served::Admin(_) => ADMIN_CONNECTIONS_MAX,
            Served::Proxy(..) => live.config.limits.connections,
        };
        let Some(passage) = gate.enter(max) else { continue };
        let (served, shutdown, entrance) = (served.clone(), shutdown.clone(), entrance.clone());
        tokio::spawn(async move {
            serve_connection(plain, peer, &entrance, &live, &passage, &served, &shutdown).await;
            drop(passage);
        });
    }
}

/// Takes one connection through the entrance and serves it to its end.
async fn serve_connection(
    plain: Plain,
    peer: IpAddr,
    entrance: &ListenerSetup,
    live: &ActiveConfig,
    passage: &OpenConnection,
    served: &Served,
    shutdown: &ShutdownWatch,
) {
    let limits = &live.config.limits;
    let metrics = &passage.0.metrics;
    // Whoever is at the other end of a unix socket has no address to share.
    let addressed = matches!(plain, Plain::Tcp(_));
    let passing = tokio::time::timeout(limits.header_timeout, entrance.pass(plain, peer, live));
    let (transport, peer) = match passing.await {
        Ok(Ok(passed)) => passed,
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "connection ended at the entrance");
            return metrics.refused(Refused::Malformed);
        }
        Err(_) => return metrics.refused(Refused::TooSlow),
    };
    let app = match served {
        Served::Admin(app) => app,
        Served::Proxy(proxies, Term { engine, ending, .. }) => {
            let counted = addressed.then(|| passage.0.enter_from(peer, &live.config));
            let Ok(_counted) = counted.transpose() else { return };
            let Proxies { gateway, pingora } = &**proxies;
            return match (engine, transport.speaks_http2()) {
                (Engine::Pingora, _) => {
                    Box::pin(pingora.serve(transport, peer, limits, ending)).await;
                }
                (Engine::Direct, true) => {
                    Box::pin(http2::serve(gateway, transport, peer, limits, ending)).await;
                }
                (Engine::Direct, false) => {
                    http1::serve(gateway, transport, peer, limits, ending).await;
                }
            };
        }
    };
    let Ok(connection) = Connection::new(transport, limits, Arc::clone(metrics)) else {
        return;
    };
    let mut stream: pingora::protocols::Stream = Box::new(connection);
    while let Some(next) = app.process_new(stream, shutdown).await {
        stream = next;
    }
}
