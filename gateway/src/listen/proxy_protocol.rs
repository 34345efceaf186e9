//! The PROXY protocol, versions 1 and 2: how a TCP balancer in front tells the client's address
//! (HAProxy's proxy-protocol.txt). Pure: bytes in, address and length out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest header: version 2 with as many extensions as anyone sends; version 1 needs 107.
pub const HEADER_LEN_MAX: usize = 536;

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What has been read so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Too little to tell.
    Partial,
    /// A header of this length. No address: the balancer speaks for itself, as in its own checks.
    Whole {
        /// Bytes to take off the stream.
        length: usize,
        /// The client.
        client: Option<IpAddr>,
    },
    /// Not this protocol.
    Wrong,
}

/// Parses the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Parsed {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(SIGNATURE) {
        return if bytes.len() < 16 { Parsed::Partial } else { version_2(bytes) };
    }
    if begins(b"PROXY ") { version_1(bytes) } else { Parsed::Wrong }
}

fn version_1(bytes: &[u8]) -> Parsed {
    const LEN_MAX: usize = 107;
    let Some(end) = bytes.iter().take(LEN_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LEN_MAX { Parsed::Partial } else { Parsed::Wrong };
    };
    let line = bytes[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else { return Parsed::Wrong };
    let mut words = line.split(' ').skip(1);
    let client = match (words.next(), words.next()) {
        (Some("UNKNOWN"), _) => None,
        (Some("TCP4"), Some(source)) => source.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        (Some("TCP6"), Some(source)) => source.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Parsed::Wrong,
    };
    if client.is_none() && !line.starts_with("PROXY UNKNOWN") {
        return Parsed::Wrong;
    }
    Parsed::Whole { length: end + 1, client }
}

fn version_2(bytes: &[u8]) -> Parsed {
    let (command, family) = (bytes[12], bytes[13]);
    let length = 16 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if command >> 4 != 2 || command & 0xf > 1 || length > HEADER_LEN_MAX {
        return Parsed::Wrong;
    }
    if bytes.len() < length {
        return Parsed::Partial;
    }
    let addresses = &bytes[16..length];
    let client = match (command & 0xf, family >> 4) {
        (0, _) => None,
        (_, 1) => {
            addresses.first_chunk::<4>().filter(|_| addresses.len() >= 12).map(|a| (*a).into())
        }
        (_, 2) => {
            addresses.first_chunk::<16>().filter(|_| addresses.len() >= 36).map(|a| (*a).into())
        }
        _ => None,
    };
    Parsed::Whole { length, client }
}

#[cfg(test)]
mod tests;
