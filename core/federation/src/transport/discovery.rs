//! Where a server is: which host and port its name stands for, what it is called there, and what its
//! certificate has to prove. The addresses behind it are looked up when a connection is made.
//!
//! Source: Matrix v1.19, server-server, "Resolving server names"; the numbers are its steps.

mod well_known;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use colonnade_model::{
    Clock,
    ruma::{OwnedServerName, ServerName},
};
use rustls::pki_types::ServerName as TlsName;

use super::{
    connect::Target,
    error::TransportError,
    fetch::{FetchBounds, Fetcher},
};

pub(super) use well_known::WELL_KNOWN;
use well_known::WellKnown;
pub use well_known::read_well_known;

/// The port of other servers unless something says otherwise.
const PORT: u16 = 8448;
/// How long it is taken for granted where a server is that has no well-known file, in milliseconds: nothing is
/// asked to find out, so it costs nothing to do so again.
const DIRECT_MS: i64 = 60 * 60 * 1_000;

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerAddress {
    /// The `Host` header.
    pub(super) host: String,
    /// What its certificate has to prove.
    pub(super) name: TlsName<'static>,
    /// Where to connect.
    pub(super) target: Target,
}

/// Finds servers.
pub(super) struct Discovery {
    overrides: BTreeMap<OwnedServerName, OwnedServerName>,
    well_known: WellKnown,
    clock: Arc<dyn Clock>,
}

impl Discovery {
    /// Begins with nothing found.
    pub(super) fn new(
        overrides: BTreeMap<OwnedServerName, OwnedServerName>,
        fetcher: Arc<Fetcher>,
        bounds: FetchBounds,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let well_known = WellKnown::new(fetcher, bounds, Arc::clone(&clock));
        Self { overrides, well_known, clock }
    }

    /// Finds a server; also until when that is taken for granted, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`TransportError::Refused`] when its name can be nobody's.
    pub(super) async fn route(
        &self,
        server: &ServerName,
    ) -> Result<(ServerAddress, i64), TransportError> {
        let until_ms = self.clock.now_ms().saturating_add(DIRECT_MS);
        if let Some(place) = self.overrides.get(server) {
            let ServerAddress { target, .. } =
                fixed(place).map_or_else(|| at_default_port(place), Ok)?;
            let name = tls_name(server)?;
            return Ok((ServerAddress { host: server.to_string(), name, target }, until_ms));
        }
        // 1, 2: an address, or a port.
        if let Some(route) = fixed(server) {
            return Ok((route, until_ms));
        }
        // 3: delegated by a well-known file.
        let (delegated, until_ms) = self.well_known.delegated(server.host()).await;
        let Some(delegated) = delegated else {
            // 4, 5, 6.
            return Ok((by_service(server)?, until_ms));
        };
        // 3.1, 3.2; 3.3, 3.4, 3.5.
        let route = fixed(&delegated).map_or_else(|| by_service(&delegated), Ok)?;
        Ok((route, until_ms))
    }
}

/// Returns the way to a server whose name says all: an address, or a host with a port.
fn fixed(server: &ServerName) -> Option<ServerAddress> {
    let host = server.to_string();
    if server.is_ip_literal() {
        let ip: IpAddr = bare(server).parse().ok()?;
        let target = Target::Address(SocketAddr::new(ip, server.port().unwrap_or(PORT)));
        return Some(ServerAddress { host, name: TlsName::IpAddress(ip.into()), target });
    }
    let target = Target::Host(server.host().to_owned(), server.port()?);
    Some(ServerAddress { host, name: tls_name(server).ok()?, target })
}

/// Returns the way to a server by the records of its host, or its default port.
fn by_service(server: &ServerName) -> Result<ServerAddress, TransportError> {
    let host = server.host().to_owned();
    let names = ["_matrix-fed._tcp", "_matrix._tcp"].map(|service| format!("{service}.{host}"));
    let target = Target::Service { names, host: host.clone(), port: PORT };
    Ok(ServerAddress { host, name: tls_name(server)?, target })
}

fn at_default_port(server: &ServerName) -> Result<ServerAddress, TransportError> {
    let target = Target::Host(server.host().to_owned(), PORT);
    Ok(ServerAddress { host: server.to_string(), name: tls_name(server)?, target })
}

/// Returns the host without the brackets of an IPv6 address.
fn bare(server: &ServerName) -> &str {
    server.host().trim_start_matches('[').trim_end_matches(']')
}

fn tls_name(server: &ServerName) -> Result<TlsName<'static>, TransportError> {
    TlsName::try_from(bare(server).to_owned())
        .map_err(|_| TransportError::Refused(format!("{server} is no name of a host")))
}

#[cfg(test)]
mod tests;
