//! The headers of a file on its way out: what a browser may do with it, how long it may keep it, and
//! which part of it was asked for.

use colonnade_model::ruma::http_headers::{ContentDisposition, ContentDispositionType};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};

use crate::reply::{self, Reply};

/// What a browser may show in place; everything else it can only save, since a page of ours must not
/// run what a stranger uploaded.
///
/// Source: Matrix v1.19, client-server, "Serving inline content".
const INLINE: [&str; 25] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/flac",
];
/// One more of the same list.
const INLINE_OLD_FLAC: &str = "audio/x-flac";

/// Keeps whatever is shown from running scripts, loading anything, or reaching our origin.
///
/// Source: Matrix v1.19, client-server, "Security considerations" of the content repository.
const POLICY: &str = "sandbox; default-src 'none'; script-src 'none'; \
     plugin-types application/pdf; style-src 'unsafe-inline'; media-src 'self'; object-src 'self';";

/// Returns the media type to send: what the uploader said if it can stand in a header.
pub(crate) fn content_type(said: Option<&str>) -> HeaderValue {
    let said = said.filter(|said| !said.trim().is_empty());
    let said = said.and_then(|said| HeaderValue::from_str(said).ok());
    said.unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

/// Returns whether to show or to save, and under which name.
pub(crate) fn disposition(kind: &HeaderValue, name: Option<String>) -> HeaderValue {
    let essence = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    let inline = INLINE.contains(&essence.as_str()) || essence == INLINE_OLD_FLAC;
    let (shown, bare) = if inline {
        (ContentDispositionType::Inline, HeaderValue::from_static("inline"))
    } else {
        (ContentDispositionType::Attachment, HeaderValue::from_static("attachment"))
    };
    let name = name.map(|name| name.chars().filter(|letter| !letter.is_control()).collect());
    let text = ContentDisposition::new(shown).with_filename(name).to_string();
    HeaderValue::from_str(&text).unwrap_or(bare)
}

/// Returns the mark of a content that never changes; `variant` names what was made of it.
pub(super) fn etag(hash: &[u8; 32], variant: &str) -> HeaderValue {
    let mut text = String::from("\"");
    for byte in &hash[..16] {
        text.push_str(&format!("{byte:02x}"));
    }
    text.push_str(variant);
    text.push('"');
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("\"\""))
}

/// Adds what every answer with content carries.
pub(super) fn add(headers: &mut HeaderMap, public: bool, etag: HeaderValue) {
    let cache = if public {
        "public, max-age=31536000, immutable"
    } else {
        "private, max-age=31536000, immutable"
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, cache),
        (header::ACCEPT_RANGES, "bytes"),
        (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::ETAG, etag);
}

/// Sets a header made of our own ASCII text.
pub(crate) fn set(reply: &mut Reply, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_str(&value) {
        reply.headers_mut().insert(name, value);
    }
}

/// Tells whether the client has this content already.
pub(super) fn is_known(parts: &Parts, etag: &HeaderValue) -> bool {
    let known = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|one| is_same(one, etag)))
}

fn is_same(one: &str, etag: &HeaderValue) -> bool {
    one.trim().trim_start_matches("W/").as_bytes() == etag.as_bytes()
}

/// Answers that nothing changed.
pub(super) fn unchanged() -> Reply {
    let mut reply = Response::new(reply::full(""));
    *reply.status_mut() = StatusCode::NOT_MODIFIED;
    reply
}

/// Which part of a file is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// All of it.
    Whole,
    /// From the first to the last of these bytes.
    Part { first: u64, last: u64 },
    /// Only bytes it does not have.
    Beyond,
}

/// Reads a range; several at once, and units other than bytes, mean the whole file, as HTTP allows.
///
/// Source: RFC 9110, "Range Requests".
pub(super) fn range(parts: &Parts, etag: &HeaderValue, bytes: u64) -> Range {
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|known| !is_same(known, etag)) {
        return Range::Whole;
    }
    let Some(range) = text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Range::Whole;
    };
    let Some((first, last)) = range.split_once('-') else { return Range::Whole };
    let (first, last) = (first.trim().parse::<u64>().ok(), last.trim().parse::<u64>().ok());
    let (first, last) = match (first, last) {
        (Some(first), None) if range.trim_end().ends_with('-') => (first, bytes.saturating_sub(1)),
        (Some(first), Some(last)) if first <= last => (first, last.min(bytes.saturating_sub(1))),
        (None, Some(0)) => return Range::Beyond,
        (None, Some(count)) if range.trim_start().starts_with('-') => {
            (bytes.saturating_sub(count), bytes.saturating_sub(1))
        }
        _ => return Range::Whole,
    };
    if first >= bytes { Range::Beyond } else { Range::Part { first, last } }
}

#[cfg(test)]
mod tests;
