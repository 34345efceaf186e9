//! Opens connections: names become addresses, of which only permitted ones are connected to, and TLS is begun
//! for the name the other side has to prove. No connection is made past this file.

use std::{
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use rustls::{ClientConfig, pki_types::ServerName as TlsName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    addresses::AddressPolicy,
    names::{ADDRESSES_MAX, Names, in_order},
};

/// How long one address may take to accept a connection: the other side of the world answers within a
/// second, twice if a packet is lost.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long names may take to be resolved.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
/// How long the handshake of TLS may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// To an address.
    Address(SocketAddr),
    /// To a host.
    Host(String, u16),
    /// To the hosts of a service, or else to the host itself.
    Service {
        /// Names of records that are looked for, one after the other.
        names: [String; 2],
        /// The host.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum ConnectError {
    /// Every address it has is one that is not connected to.
    #[error("{0} is not an address that this server connects to (outgoing.allowed_ranges)")]
    Refused(IpAddr),
    /// Whatever else.
    #[error("{0}")]
    Failed(String),
}

/// What all connections share.
pub(super) struct Dialer {
    pub(super) names: Arc<dyn Names>,
    pub(super) addresses: AddressPolicy,
    pub(super) tls: Arc<ClientConfig>,
}

impl Dialer {
    /// Opens a connection to whoever proves to be `name`; without one there is no TLS.
    pub(super) async fn connect(
        &self,
        target: &Target,
        name: Option<TlsName<'static>>,
    ) -> Result<OpenConnection, ConnectError> {
        let resolved = timeout(RESOLVE_MAX, self.resolve(target)).await;
        let late = |_| ConnectError::Failed("its name is not resolved in time".to_owned());
        let addresses = resolved.map_err(late)??;
        let mut why = ConnectError::Failed("it has no address".to_owned());
        let mut tried = 0;
        for address in addresses {
            if !self.addresses.permits(address.ip()) {
                why = ConnectError::Refused(address.ip());
                continue;
            }
            if tried == ADDRESSES_MAX {
                break;
            }
            tried += 1;
            match self.open(address, name.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(failure) => why = ConnectError::Failed(format!("{address}: {failure}")),
            }
        }
        Err(why)
    }

    async fn open(
        &self,
        address: SocketAddr,
        name: Option<TlsName<'static>>,
    ) -> Result<OpenConnection, String> {
        let opened = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
        let stream = opened.map_err(|_| "it does not accept connections in time".to_owned())?;
        let stream = stream.map_err(|error| error.to_string())?;
        let _slower_but_works = stream.set_nodelay(true);
        let Some(name) = name else { return Ok(OpenConnection::Plain(TokioIo::new(stream))) };
        let tls = TlsConnector::from(Arc::clone(&self.tls));
        let shaken = timeout(HANDSHAKE_MAX, tls.connect(name, stream)).await;
        let stream = shaken.map_err(|_| "TLS does not begin in time".to_owned())?;
        let stream = stream.map_err(|error| format!("TLS does not begin: {error}"))?;
        Ok(OpenConnection::Encrypted(Box::new(TokioIo::new(stream))))
    }

    async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
        match target {
            Target::Address(address) => Ok(vec![*address]),
            Target::Host(host, port) => self.host(host, *port).await,
            Target::Service { names, host, port } => {
                for name in names {
                    let records = self.names.services(name).await.map_err(ConnectError::Failed)?;
                    let mut found = Vec::new();
                    for record in in_order(records) {
                        // One of several that does not exist is no reason to give up.
                        if let Ok(of_it) = self.host(&record.target, record.port).await {
                            found.extend(of_it);
                        }
                    }
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                self.host(host, *port).await
            }
        }
    }

    async fn host(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = self.names.addresses(host).await;
        let found = found.map_err(|why| ConnectError::Failed(format!("{host}: {why}")))?;
        if found.is_empty() {
            return Err(ConnectError::Failed(format!("{host} has no address")));
        }
        Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }
}

/// Opens connections to one server, for hyper's pool.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) dialer: Arc<Dialer>,
    pub(super) target: Target,
    pub(super) name: TlsName<'static>,
}

impl tower_service::Service<Uri> for Connector {
    type Response = OpenConnection;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<OpenConnection, ConnectError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    /// The address of the request does not matter: all of this pool go to one place.
    fn call(&mut self, _: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.dialer.connect(&this.target, Some(this.name)).await })
    }
}

/// A connection, as hyper's pool wants it.
pub(super) enum OpenConnection {
    Encrypted(Box<TokioIo<TlsStream<TcpStream>>>),
    Plain(TokioIo<TcpStream>),
}

impl Connection for OpenConnection {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for OpenConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl Write for OpenConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut *self {
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut *self {
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
