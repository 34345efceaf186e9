//! The head of a request as decisions see it: method, target, headers; whoever read it, and however it
//! is kept. `proxy/http1` has one over the bytes of a connection, `proxy/http2/head.rs` one over HTTP/2.

use crate::routing::request_target::Target;

/// A request's head.
pub trait Head: Sync {
    /// The method, as sent.
    fn method(&self) -> &str;

    /// What is asked for.
    fn target(&self) -> &Target;

    /// The first header of this name (in lower case).
    fn header(&self, name: &str) -> Option<&[u8]>;

    /// Every header of this name, in order.
    fn all(&self, name: &str) -> Vec<&[u8]>;

    /// `HTTP/1.1` or `HTTP/2.0`.
    fn protocol(&self) -> &'static str;

    /// The first header of this name, if it is text without control characters.
    fn text(&self, name: &str) -> Option<&str> {
        visible(self.header(name)?)
    }
}

/// A header's value as text: visible ASCII, blanks and tabs.
pub fn visible(value: &[u8]) -> Option<&str> {
    let plain = value.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    plain.then(|| std::str::from_utf8(value).ok()).flatten()
}
