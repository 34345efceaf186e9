//! Refuses what two readers could understand differently: the same that the gateway refuses, for whoever
//! reaches a worker without it. What is left has one reading, ours and the gateway's; the cases in
//! docs/targets.tsv are the contract (`gateway/src/routing/request_target.rs`).
//!
//! Behind a `#` nothing is seen here: hyper has thrown it away, so nobody reads it.

use colonnade_model::MatrixError;
use http::{HeaderMap, Uri, header::AUTHORIZATION};
use percent_encoding::percent_decode_str;

/// The longest target, in bytes: a filter written out in `/sync` has a few kB.
const TARGET_BYTES_MAX: usize = 32 * 1024;
/// The longest path, in bytes: ids have at most 255 characters, tripled by escapes.
const PATH_BYTES_MAX: usize = 8 * 1024;

/// Parameters that decide something, so that they may not be there twice: the gateway's list.
const ONCE: [&str; 20] = [
    "access_token",
    "at",
    "client_secret",
    "device_id",
    "dir",
    "filename",
    "filter",
    "from",
    "kind",
    "limit",
    "loginToken",
    "method",
    "org.matrix.msc3202.device_id",
    "sid",
    "since",
    "timeout",
    "timeout_ms",
    "to",
    "token",
    "user_id",
];

/// Checks what is asked for, and that it is said once who asks.
///
/// # Errors
/// 400 `M_UNKNOWN` for what can be understood in several ways or none, 414 `M_TOO_LARGE`.
pub fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), MatrixError> {
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    if path.len() > PATH_BYTES_MAX || path.len() + 1 + query.len() > TARGET_BYTES_MAX {
        return Err(MatrixError::too_large("the path or the query is too long").with_status(414));
    }
    if !path.starts_with('/') {
        return Err(unclear("the target is no path"));
    }
    let dots =
        |segment: &str| matches!(&*percent_decode_str(segment).decode_utf8_lossy(), "." | "..");
    if path.split('/').any(dots) {
        return Err(unclear("the path has a segment that is `.` or `..`"));
    }
    for part in [path, query] {
        escapes_are_clear(part)?;
    }
    names_are_clear(query)?;
    credentials_are_one(query, headers)
}

fn unclear(why: &str) -> MatrixError {
    MatrixError::unknown(format!("the request can be understood in more than one way: {why}"))
}

fn escapes_are_clear(part: &str) -> Result<(), MatrixError> {
    if part.contains('\\') || !part.is_ascii() {
        return Err(unclear("it has a character that no target has"));
    }
    let whole = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    };
    if !part.split('%').skip(1).all(whole) {
        return Err(unclear("a % does not begin an escape, or one of U+0000"));
    }
    // Separators are ASCII: each segment and value is UTF-8 where the whole is.
    match percent_decode_str(part).decode_utf8() {
        Ok(_) => Ok(()),
        Err(_) => Err(unclear("it is not UTF-8 when its escapes are taken off")),
    }
}

fn names_are_clear(query: &str) -> Result<(), MatrixError> {
    let mut seen = [false; ONCE.len()];
    for pair in query.split('&') {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        if name.contains(['%', '+', ';', '"', '<', '>', '^', '`', '{', '|', '}']) {
            return Err(unclear("a parameter's name has escapes, or characters that want one"));
        }
        let Some(place) = ONCE.iter().position(|known| *known == name) else { continue };
        if std::mem::replace(&mut seen[place], true) {
            return Err(unclear(&format!("`{name}` is there twice")));
        }
    }
    Ok(())
}

/// Federation signs with several keys, each in a line of its own; of access tokens there is one.
fn credentials_are_one(query: &str, headers: &HeaderMap) -> Result<(), MatrixError> {
    let given = || headers.get_all(AUTHORIZATION).iter();
    let is_bearer =
        |value: &[u8]| value.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    let any_is_bearer = given().any(|value| is_bearer(value.as_bytes()));
    let named = |pair: &str| pair.split('=').next() == Some("access_token");
    match given().count() {
        0 => Ok(()),
        2.. if any_is_bearer => Err(unclear("it says several times who asks")),
        _ if query.split('&').any(named) => Err(unclear("it says in two ways who asks")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = include_str!("../../../docs/targets.tsv");

    fn status(target: &str, headers: &HeaderMap) -> Option<u16> {
        // What is no URI hyper refuses itself; what it cuts off nobody sees.
        let uri: Uri = target.parse().ok().filter(|_| !target.contains('#'))?;
        Some(check(&uri, headers).map_or_else(|error| error.status, |()| 200))
    }

    /// What a target means to those who read it here: the router, and whoever looks for parameters.
    fn reading(uri: &Uri) -> Vec<String> {
        let path = percent_decode_str(uri.path()).decode_utf8().unwrap().into_owned();
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let values = pairs.flat_map(|(name, value)| [name.into_owned(), value.into_owned()]);
        [path].into_iter().chain(values).collect()
    }

    #[test]
    fn targets_are_read_as_the_gateway_reads_them() {
        let none = HeaderMap::new();
        let mut refused = 0;
        for line in CASES.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [verdict, target, sent, meaning] = columns[..] else { panic!("{line}") };
            if verdict == "ok" {
                let uri: Uri = sent.parse().unwrap();
                assert_eq!(check(&uri, &none).err(), None, "{sent}");
                let meaning: Vec<String> = serde_json::from_str(meaning).unwrap();
                assert_eq!(reading(&uri), meaning, "{sent}");
                assert!(status(target, &none).is_none_or(|status| status == 200), "{target}");
            } else if let Some(status) = status(target, &none) {
                assert_eq!(status.to_string(), verdict, "{target}");
                refused += 1;
            }
        }
        assert!(refused > 30, "{refused}");
        for name in ONCE {
            assert_eq!(status(&format!("/a?{name}=b"), &none), Some(200), "{name}");
            assert_eq!(status(&format!("/a?{name}=b&c&{name}"), &none), Some(400), "{name}");
        }
        let long = |path: usize, query: usize| {
            status(&format!("/{}?{}", "a".repeat(path - 1), "b".repeat(query)), &none)
        };
        assert_eq!(long(PATH_BYTES_MAX, 1), Some(200));
        assert_eq!(long(PATH_BYTES_MAX + 1, 1), Some(414));
        assert_eq!(long(1, TARGET_BYTES_MAX - 2), Some(200));
        assert_eq!(long(1, TARGET_BYTES_MAX - 1), Some(414));
    }

    #[test]
    fn it_is_said_once_who_asks() {
        for (given, target, expected) in [
            (&["Bearer a"][..], "/a", 200),
            (&[], "/a?access_token=b", 200),
            (&["Bearer a"], "/a?access_token=b", 400),
            (&["Basic a"], "/a?c&access_token", 400),
            (&["Bearer a", "Bearer a"], "/a", 400),
            (&["X-Matrix a", "bearer a"], "/a", 400),
            (&["X-Matrix a", "X-Matrix b"], "/a", 200),
        ] {
            let mut headers = HeaderMap::new();
            for value in given {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(status(target, &headers), Some(expected), "{given:?} {target}");
        }
    }
}
