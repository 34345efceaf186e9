//! The small values of a routes file: sizes, spans of time, address ranges, worker addresses.
//! Parsing only; each says what it expected when it fails.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// The largest weight of a worker: a ring has 160 points per unit, so this bounds its size.
pub const WEIGHT_MAX: u32 = 100;

/// A size in bytes, written `4096`, `64KiB`, `100MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" | "K" | "k" => 1 << 10,
            "MiB" | "M" | "m" => 1 << 20,
            "GiB" | "G" | "g" => 1 << 30,
            _ => return Err(size_expected(text)),
        };
        let number: u64 = number.parse().map_err(|_| size_expected(text))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| size_expected(text))
    }
}

fn size_expected(text: &str) -> String {
    format!("`{text}` is not a size; write it like 64KiB or 100MiB")
}

/// A span of time, written `250ms`, `10s`, `5m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor_ms: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(span_expected(text)),
        };
        let number: u64 = number.parse().map_err(|_| span_expected(text))?;
        number
            .checked_mul(factor_ms)
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| span_expected(text))
    }
}

fn span_expected(text: &str) -> String {
    format!("`{text}` is not a span of time; write it like 250ms, 10s or 5m")
}

macro_rules! from_text {
    ($type:ty) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
from_text!(ByteSize);
from_text!(Span);

/// A range of addresses, written `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpRange {
    network: IpAddr,
    prefix_bits: u8,
}

impl IpRange {
    /// Says whether the address lies in the range. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                network.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(network), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                network.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for IpRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address range; write it like 10.0.0.0/8 or ::1");
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| wrong())?;
        let bits_max: u8 = if network.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits {
            Some(bits) => bits.parse().map_err(|_| wrong())?,
            None => bits_max,
        };
        if prefix_bits > bits_max {
            return Err(wrong());
        }
        Ok(Self { network, prefix_bits })
    }
}

/// Where a worker listens, or where the gateway does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `127.0.0.1:9101`
    Tcp(SocketAddr),
    /// `unix:/run/colonnade/sync.sock`
    Unix(PathBuf),
}

/// Where a worker listens.
pub type WorkerAddr = Address;

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(PathBuf::from(path))),
                false => Err(format!("`{text}` needs an absolute path, like unix:/run/sync.sock")),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!(
                "`{text}` is not an address; write it like 127.0.0.1:9101 or unix:/run/sync.sock"
            )
        })
    }
}

/// A worker as a pool lists it: an address and, after a blank, `weight=N`.
pub(super) fn worker(text: &str) -> Result<(WorkerAddr, u32), String> {
    let mut words = text.split_whitespace();
    let address = words.next().unwrap_or_default().parse()?;
    let mut weight = 1;
    for word in words {
        weight = word
            .strip_prefix("weight=")
            .and_then(|n| n.parse().ok())
            .filter(|n| (1..=WEIGHT_MAX).contains(n))
            .ok_or_else(|| {
                format!("`{word}` is not known after an address; write weight=1 to 100")
            })?;
    }
    Ok((address, weight))
}

/// A range of slots and its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRange {
    /// The first slot.
    pub first: u32,
    /// The slot after the last.
    pub end: u32,
    /// Who owns them.
    pub owner: WorkerAddr,
}
