//! Reads `multipart/mixed` as it comes, a piece at a time: no more of it is in memory than one piece of the
//! body and the head of a part.
//!
//! Source: RFC 2046, "Multipart Media Type".

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;

use crate::transport::TransportError;

/// The longest head of a part, in bytes: a media type, a name, an address.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Headers of a part that are read.
const HEADERS_MAX: usize = 32;
/// The longest boundary, in characters, as the standard says.
const BOUNDARY_MAX: usize = 70;

/// A body of several parts.
pub(super) struct Multipart<S> {
    body: S,
    buffer: BytesMut,
    /// What stands between two parts, with the line end before it.
    delimiter: Vec<u8>,
}

impl<S: Stream<Item = Result<Bytes, TransportError>> + Unpin> Multipart<S> {
    /// Begins to read a body whose type is `content_type`.
    pub(super) fn new(content_type: &str, body: S) -> Option<Self> {
        let delimiter = format!("\r\n--{}", boundary(content_type)?).into_bytes();
        // A body may begin with its first boundary.
        Some(Self { body, buffer: BytesMut::from(&b"\r\n"[..]), delimiter })
    }

    /// Returns the headers of the next part; what is left of the one before is skipped.
    pub(super) async fn part(&mut self) -> Result<Option<HeaderMap>, TransportError> {
        while self.piece().await?.is_some() {}
        self.buffer.advance(self.delimiter.len());
        while self.buffer.len() < 2 {
            self.fill().await?;
        }
        if self.buffer.starts_with(b"--") {
            return Ok(None);
        }
        let end = loop {
            if let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(malformed("the head of a part is too long"));
            }
            self.fill().await?;
        };
        let head = self.buffer.split_to(end);
        // The rest of the boundary's line is blank.
        let line = memmem::find(&head, b"\r\n").map_or(0, |line| line + 2);
        read_headers(&head[line..]).map(Some)
    }

    /// Returns the next piece of the part.
    pub(super) async fn piece(&mut self) -> Result<Option<Bytes>, TransportError> {
        loop {
            let whole = match memmem::find(&self.buffer, &self.delimiter) {
                Some(0) => return Ok(None),
                Some(end) => end,
                // A boundary may be cut in two.
                None => self.buffer.len().saturating_sub(self.delimiter.len() - 1),
            };
            if whole > 0 {
                return Ok(Some(self.buffer.split_to(whole).freeze()));
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), TransportError> {
        match self.body.next().await {
            Some(piece) => self.buffer.extend_from_slice(&piece?),
            None => return Err(malformed("its last part does not end")),
        }
        Ok(())
    }
}

fn malformed(why: &str) -> TransportError {
    TransportError::Malformed(why.to_owned())
}

/// Reads the boundary out of a media type.
fn boundary(content_type: &str) -> Option<&str> {
    let (essence, mut parameters) = content_type.split_once(';')?;
    if !essence.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    loop {
        let (name, rest) = parameters.split_once('=')?;
        let rest = rest.trim_start();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(';').unwrap_or((rest, "")),
        };
        if name.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case("boundary") {
            let value = value.trim_end();
            return (1..=BOUNDARY_MAX).contains(&value.len()).then_some(value);
        }
        parameters = after;
    }
}

fn read_headers(head: &[u8]) -> Result<HeaderMap, TransportError> {
    let mut headers = HeaderMap::new();
    // Only the empty line.
    if head.is_empty() {
        return Ok(headers);
    }
    let mut space = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let read = httparse::parse_headers(head, &mut space);
    let Ok(httparse::Status::Complete((_, read))) = read else {
        return Err(malformed("the head of a part cannot be read"));
    };
    for header in read {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(header.value)) {
            headers.append(name, value);
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests;
