//! Which addresses this server connects to on somebody else's word. Whoever names a server, a media file or a
//! redirect could name a machine of the operator's own network; so only the public internet is asked, and what
//! the configuration allows besides. Looked at once the name is resolved, on the address that is connected to.
//!
//! Source: the IANA registries of special-purpose addresses for IPv4 and IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 that is not of the public internet.
const SPECIAL_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Shared between carriers and their customers (CGNAT).
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    // Documentation.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    // Relays from IPv6, of times gone by.
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Benchmarks.
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, and what is reserved with the broadcast address.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// IPv6 within 2000::/3, which is all that is public, that is not.
const SPECIAL_V6: &[(Ipv6Addr, u8)] = &[
    // Protocols of their own (Teredo, ORCHID, benchmarks).
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// All of IPv6 that is of the public internet.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Says which addresses are connected to.
#[derive(Debug, Clone)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Allows the public internet and `ranges`.
    pub fn new(ranges: &[IpNet]) -> Self {
        Self { allowed: ranges.to_vec() }
    }

    /// Says whether an address may be connected to.
    pub fn permits(&self, address: IpAddr) -> bool {
        let plain = address.to_canonical();
        if self.allowed.iter().any(|range| range.contains(&plain) || range.contains(&address)) {
            return true;
        }
        match plain {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => match embedded(address) {
                // A translator would carry it there.
                Some(inner) => self.permits(IpAddr::V4(inner)),
                None => is_public_v6(address),
            },
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let within = |(net, bits): &(Ipv4Addr, u8)| Ipv4Net::new_assert(*net, *bits).contains(&address);
    !SPECIAL_V4.iter().any(within)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let within = |(net, bits): &(Ipv6Addr, u8)| Ipv6Net::new_assert(*net, *bits).contains(&address);
    within(&PUBLIC_V6) && !SPECIAL_V6.iter().any(within)
}

/// Returns the IPv4 address that an IPv6 address of a translator stands for (NAT64, 6to4).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match (a, b) {
        (0x64, 0xff9b) if [c, d, e, f] == [0; 4] => Some(of(high, low)),
        (0x2002, _) => Some(of(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(ranges: &[&str], address: &str) -> bool {
        let ranges: Vec<IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        AddressPolicy::new(&ranges).permits(address.parse().unwrap())
    }

    #[test]
    fn only_the_public_internet_is_connected_to() {
        for public in ["1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "2606:4700::1111"] {
            assert!(permits(&[], public), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "2001:db8::1",
            "3fff::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "::127.0.0.1",
        ] {
            assert!(!permits(&[], private), "{private}");
        }
    }

    #[test]
    fn the_operator_may_allow_more_and_no_more_than_that() {
        assert!(permits(&["127.0.0.0/8"], "127.0.0.1"));
        assert!(permits(&["127.0.0.0/8"], "::ffff:127.0.0.1"));
        assert!(!permits(&["127.0.0.0/8"], "10.0.0.1"));
        assert!(!permits(&["127.0.0.0/8"], "::1"));
        assert!(permits(&["fd00::/8"], "fd00::1"));
    }
}
