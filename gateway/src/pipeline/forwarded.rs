//! Who the client is, when proxies stand in front: `X-Forwarded-For` and `X-Forwarded-Proto`,
//! believed only from trusted addresses. Pure: header text in, address out.

use std::net::IpAddr;

use crate::config::Config;

/// The longest chain of proxies written on; whoever sends more is playing.
const HOPS_MAX: usize = 20;

/// The longest request id taken over from a client.
const REQUEST_ID_LEN_MAX: usize = 64;

/// Who asks, and how the worker is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The client's own address.
    pub ip: IpAddr,
    /// The `X-Forwarded-For` the worker gets.
    pub forwarded_for: String,
    /// The `X-Forwarded-Proto` the worker gets.
    pub proto: &'static str,
}

/// Works out the client from the peer of the connection and what the peer forwards.
pub fn client(
    config: &Config,
    peer: IpAddr,
    tls: bool,
    forwarded_for: Option<&str>,
    forwarded_proto: Option<&str>,
) -> Client {
    let peer = peer.to_canonical();
    let own_proto = if tls { "https" } else { "http" };
    if !config.trusts(peer) {
        return as_connected(peer, tls);
    }
    let proto = match forwarded_proto {
        Some("https") => "https",
        Some("http") => "http",
        _ => own_proto,
    };
    let given = forwarded_for.unwrap_or("");
    let mut hops: Vec<IpAddr> = given.rsplit(',').map_while(hop).take(HOPS_MAX).collect();
    // From the nearest outwards: the first address no trusted proxy has is the client.
    let ip = hops.iter().copied().find(|ip| !config.trusts(*ip)).or(hops.last().copied());
    hops.reverse();
    hops.push(peer);
    let chain: Vec<String> = hops.iter().map(IpAddr::to_string).collect();
    Client { ip: ip.unwrap_or(peer), forwarded_for: chain.join(", "), proto }
}

/// The client that a peer is whom nobody trusts, whatever it forwards.
pub fn as_connected(peer: IpAddr, tls: bool) -> Client {
    let ip = peer.to_canonical();
    let proto = if tls { "https" } else { "http" };
    Client { ip, forwarded_for: ip.to_string(), proto }
}

/// What counts as one client for limits: an IPv4 address, or the /64 an IPv6 client chooses its
/// addresses from.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

/// One entry of the chain; some proxies write a port behind the address.
fn hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let ip: Option<IpAddr> = bare.parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    ip.or_else(with_port).map(|ip| ip.to_canonical())
}

/// Says whether a client's request id can be written into logs and headers as it is.
pub fn is_request_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !text.is_empty() && text.len() <= REQUEST_ID_LEN_MAX && text.bytes().all(plain)
}

#[cfg(test)]
mod tests;
