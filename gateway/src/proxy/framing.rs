//! What a request's raw head must not contain, because two readers could understand it differently:
//! the front of request smuggling (RFC 9112 §6.1, §11.2). Decides only; `proxy.rs` answers.

use std::borrow::Cow;

use pingora::http::RequestHeader;
use pingora::proxy::Session;

use crate::reply::{self, Reply};

/// Finds the reason to refuse a request whose head has just been read.
pub(super) fn refuse(session: &Session, header_bytes_max: u64) -> Option<Reply> {
    let http1 = session.as_downstream().as_http1()?;
    let raw = http1.get_headers_raw_bytes();
    if raw.len() as u64 > header_bytes_max {
        return Some(reply::HEADER_TOO_LARGE);
    }
    let headers = &session.req_header().headers;
    // Pingora has removed Content-Length by now, so the raw bytes are asked.
    let both = headers.contains_key("transfer-encoding") && names_content_length(&raw);
    (both || has_loose_lines(&raw)).then_some(reply::MALFORMED)
}

fn names_content_length(raw: &[u8]) -> bool {
    raw.split(|byte| *byte == b'\n').any(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

/// A line that ends without CR, a CR elsewhere, or a line that begins with a blank (obs-fold).
fn has_loose_lines(raw: &[u8]) -> bool {
    let mut before = 0u8;
    for byte in raw {
        let loose = match (before, byte) {
            (b'\r', b'\n') => false,
            (b'\r', _) | (_, b'\n') => true,
            (b'\n', b' ' | b'\t') => true,
            _ => false,
        };
        if loose {
            return true;
        }
        before = *byte;
    }
    false
}

/// The path and query of a request as they stand on the wire; `None` if they are not text.
pub(super) fn target(head: &RequestHeader) -> Option<Cow<'_, str>> {
    if !head.raw_path_is_utf8() {
        return None;
    }
    let raw = std::str::from_utf8(head.raw_path()).ok()?;
    if raw.starts_with('/') {
        return Some(Cow::Borrowed(raw));
    }
    // Absolute form: the URI holds its path and query, byte for byte. Nothing else is a path.
    let scheme = raw.split_once("://")?.0;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    head.uri.path_and_query().map(|target| Cow::Borrowed(target.as_str()))
}
