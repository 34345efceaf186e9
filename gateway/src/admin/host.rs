//! By which names the admin listener is asked: a page in a browser can make a name of its own lead here
//! (DNS rebinding), and would then read what it is answered. An address leads nowhere else.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use colonnade_http1::{host_of, is_authority};

/// Says whether somebody who means this listener asks it by this name: one of this machine alone, the
/// address it listens on, any address where it listens on all, or a name of the configuration.
pub(super) fn is_ours(asked: &[u8], listens: Option<SocketAddr>, names: &[String]) -> bool {
    let Some(asked) =
        std::str::from_utf8(asked).ok().filter(|asked| is_authority(asked.as_bytes()))
    else {
        return false;
    };
    let host = host_of(asked);
    if host == "localhost" || names.iter().any(|name| name.eq_ignore_ascii_case(&host)) {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| bare.parse::<Ipv6Addr>().ok().map(IpAddr::V6));
    address.is_some_and(|address: IpAddr| {
        let own = |listens: SocketAddr| listens.ip() == address || listens.ip().is_unspecified();
        address.to_canonical().is_loopback() || listens.is_some_and(own)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_the_address_and_those_of_the_configuration_are_ours() {
        let listens = "10.0.0.5:8009".parse().ok();
        let names = ["gateway.internal".to_owned()];
        for asked in [
            "localhost",
            "LOCALHOST:8009",
            "127.0.0.1:8009",
            "127.9.9.9",
            "[::1]:8009",
            "10.0.0.5:8009",
            "10.0.0.5",
            "Gateway.Internal:80",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_ours(asked.as_bytes(), listens, &names), "{asked}");
        }
        for asked in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.6",
            "gateway.internal.evil",
            "::1",
            "127.0.0.1.evil.example",
            "0x7f.1",
            "localhost:x",
            "a b",
        ] {
            assert!(!is_ours(asked.as_bytes(), listens, &names), "{asked}");
        }
        let everywhere = "0.0.0.0:8009".parse().ok();
        assert!(is_ours(b"10.0.0.6:8009", everywhere, &[]));
        assert!(!is_ours(b"evil.example", everywhere, &[]));
        assert!(!is_ours(b"10.0.0.6", None, &[]));
    }
}
