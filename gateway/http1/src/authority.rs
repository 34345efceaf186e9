//! Who is asked, as `Host` and `:authority` name it (RFC 9110 §7.2, RFC 3986 §3.2): a name or an address,
//! and a port. Stricter than the grammar, of whose marks no host has any: what another reader could cut
//! elsewhere is refused.

use std::net::Ipv6Addr;

/// Says whether this names a host, and nothing besides.
pub fn is_authority(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !host.is_empty() && host.bytes().all(plain) && is_port(port)
}

/// The host of an authority, without its port; in lower case, since case means nothing there.
pub fn host_of(authority: &str) -> String {
    let end = match authority.rfind(']') {
        Some(end) => end + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    authority[..end].to_ascii_lowercase()
}

/// A port; the grammar lets it be empty.
fn is_port(text: &str) -> bool {
    text.is_empty()
        || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_with_a_port_at_most() {
        for host in ["h", "a-b_c.example.org", "h:8448", "h:", "127.0.0.1:1", "[::1]", "[::1]:80"] {
            assert!(is_authority(host.as_bytes()), "{host}");
        }
        for host in [
            "", ":80", "a b", "a/b", "[::1", "[::1]80", "[::1]:x", "[h]", "::1", "u@h", "h:x",
            "h:1:2", "h:65536", "h:+1", "a,b", "a;b", "a?b", "a#b", "a\\b", "a%2Fb", "h\t", "é",
            "a\"b", "<h>",
        ] {
            assert!(!is_authority(host.as_bytes()), "{host}");
        }
    }
}
