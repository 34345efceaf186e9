//! Headers that belong to one connection and are not passed on (RFC 9110 §7.6.1): those of this list, and
//! those that `Connection` names.

/// Says whether a header of this name is the connection's own, whatever `Connection` says.
pub(crate) fn is_own(name: &str) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        2 => is("te"),
        7 => is("upgrade") || is("trailer"),
        10 => is("connection") || is("keep-alive"),
        14 => is("http2-settings"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

/// Says whether these `Connection` headers of a message make one of its headers the connection's own.
pub fn is_named<'v>(name: &str, mut connection: impl Iterator<Item = &'v [u8]>) -> bool {
    may_be_named(name) && connection.any(|list| names(list, name))
}

/// Says whether a header stays with the connection it came on, by its name or by these `Connection` headers.
pub fn stays<'v>(name: &str, connection: impl Iterator<Item = &'v [u8]>) -> bool {
    is_own(name) || is_named(name, connection)
}

/// Says whether `Connection` may make this header the connection's own: not what frames a message, addresses
/// it, or says who asks, for a client must not be able to take these away.
fn may_be_named(name: &str) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    !(is("host") || is("content-length") || is("authorization"))
}

/// The words of one `Connection` header.
pub fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

/// Says whether a `Connection` header names this word.
pub fn names(value: &[u8], word: &str) -> bool {
    words(value).any(|named| named.eq_ignore_ascii_case(word.as_bytes()))
}

/// Says whether a word of `Connection` is about the connection, not the name of a header.
pub fn is_option(word: &[u8]) -> bool {
    let options: [&[u8]; 3] = [b"close", b"keep-alive", b"upgrade"];
    options.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_keeps_its_own_headers_and_no_others() {
        for name in [
            "TE",
            "Upgrade",
            "trailer",
            "Connection",
            "keep-alive",
            "HTTP2-Settings",
            "proxy-connection",
            "Transfer-Encoding",
        ] {
            assert!(is_own(name), "{name}");
        }
        for name in ["host", "content-length", "authorization", "accept", "cookie", "expect"] {
            assert!(!is_own(name), "{name}");
        }
    }

    #[test]
    fn connection_is_a_list_of_words() {
        let found: Vec<&[u8]> = words(b" close ,, X-Own,\tupgrade").collect();
        assert_eq!(found, [&b"close"[..], b"X-Own", b"upgrade"]);
        assert!(names(b"a, x-own", "X-Own"));
        assert!(!names(b"x-owner", "x-own"));
        assert!(is_option(b"Close") && !is_option(b"x-own"));
    }

    #[test]
    fn a_header_stays_by_its_name_or_because_it_is_named() {
        let lists: [&[u8]; 2] = [b"close, X-Own", b"host, content-length"];
        for (name, expected) in [
            ("x-own", true),
            ("Keep-Alive", true),
            ("x-owner", false),
            // Nobody can take away what frames a message or addresses it.
            ("Host", false),
            ("content-length", false),
        ] {
            assert_eq!(stays(name, lists.into_iter()), expected, "{name}");
        }
        assert!(!stays("x-own", std::iter::empty()));
        assert!(!is_named("keep-alive", lists.into_iter()), "it is the connection's own unnamed");
    }
}
