//! Pingora's request header as decisions see heads.

use std::borrow::Cow;

use pingora::http::RequestHeader;

use crate::head::Head;

impl Head for RequestHeader {
    fn method(&self) -> &str {
        self.method.as_str()
    }

    fn target(&self) -> Option<Cow<'_, str>> {
        if !self.raw_path_is_utf8() {
            return None;
        }
        let raw = std::str::from_utf8(self.raw_path()).ok()?;
        if raw.starts_with('/') {
            return Some(Cow::Borrowed(raw));
        }
        // Absolute form: the URI holds its path and query, byte for byte. Nothing else is a path.
        let scheme = raw.split_once("://")?.0;
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return None;
        }
        self.uri.path_and_query().map(|target| Cow::Borrowed(target.as_str()))
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(|value| value.as_bytes())
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.headers.get_all(name).into_iter().map(|value| value.as_bytes()).collect()
    }

    fn protocol(&self) -> &'static str {
        match self.version {
            http::Version::HTTP_2 => "HTTP/2.0",
            http::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
    }
}
