//! A request over HTTP/1: its head as it was read, and its target as everybody behind reads it.

use colonnade_http1::{RequestError, RequestHead};

use crate::pipeline::own_headers;
use crate::pipeline::reply::{self, Reply};
use crate::routing::head::Head;
use crate::routing::request_target::{Target, credentials_are_one};
use crate::routing::routes::Methods;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its head.
    pub(crate) wire: RequestHead,
    target: Target,
}

impl Request {
    /// Reads a head whose end has been found.
    ///
    /// # Errors
    /// The reply that refuses it; then the connection must end.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Reply> {
        let wire = RequestHead::parse(bytes, own_headers::in_request)?;
        let path = wire.target();
        let target = match wire.is_absolute() && !path.starts_with('/') {
            true => Target::parse(format!("/{path}").as_bytes()),
            false => Target::parse(path.as_bytes()),
        }?;
        let (authorizations, any_is_bearer) = wire.authorizations();
        credentials_are_one(authorizations, any_is_bearer, &target)?;
        Ok(Self { wire, target })
    }
}

impl From<RequestError> for Reply {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed => reply::MALFORMED,
            RequestError::TooManyHeaders => reply::HEADER_TOO_LARGE,
            RequestError::Connect => reply::WRONG_METHOD.allowing(Methods::NAMED),
            RequestError::OtherScheme => reply::UNCLEAR_TARGET,
        }
    }
}

impl Head for Request {
    fn method(&self) -> &str {
        self.wire.method()
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn header(&self, name: &str) -> Option<&[u8]> {
        self.wire.header(name)
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        self.wire.all(name)
    }

    fn protocol(&self) -> &'static str {
        if self.wire.http11 { "HTTP/1.1" } else { "HTTP/1.0" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(target: &str, host: &str) -> Result<Request, Reply> {
        Request::parse(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes())
    }

    #[test]
    fn a_target_has_one_reading_in_every_form() {
        let targets = [
            ("/a?b#c", "h", None),
            ("http://h/a%2F?b", "h", Some("/a%2F?b")),
            ("HTTP://h?b", "h", Some("/?b")),
            ("http://h", "h", Some("/")),
            ("http://h/a#c", "h", None),
            ("http://h#c", "h", None),
            ("http://h\\@i/a", "h", None),
            ("/a", "[::1]:80", Some("/a")),
        ];
        for (target, host, path) in targets {
            let parsed = parse(target, host);
            let found = parsed.as_ref().ok().map(|head| head.target().as_str().to_owned());
            assert_eq!(found.as_deref(), path, "{target} {host}");
        }
        for target in ["*", "a", "ftp://h/a", "h:80"] {
            assert_eq!(parse(target, "h").unwrap_err().status, 400, "{target}");
        }
    }

    #[test]
    fn refusals_are_replies_in_matrix_shape() {
        let connect = Request::parse(b"CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n".to_vec());
        let connect = connect.unwrap_err();
        assert_eq!((connect.status, connect.allow), (405, Some(Methods::NAMED)));
        let many = "x: y\r\n".repeat(128);
        let many = Request::parse(format!("GET / HTTP/1.1\r\nhost: h\r\n{many}\r\n").into_bytes());
        assert_eq!(many.unwrap_err(), reply::HEADER_TOO_LARGE);
    }

    #[test]
    fn what_the_gateway_writes_itself_is_not_passed_on() {
        let head = Request::parse(
            b"GET /a HTTP/1.1\r\nHost: h\r\nx-forwarded-for: 1.1.1.1\r\nx-forwarded-proto: https\r\n\
              x-request-id: r\r\ntraceparent: t\r\nB: 2\r\n\r\n"
                .to_vec(),
        )
        .unwrap();
        let passed =
            |traces| -> String { head.wire.runs(traces).map(String::from_utf8_lossy).collect() };
        assert_eq!(passed(false), "Host: h\r\nB: 2\r\n");
        assert_eq!(passed(true), "Host: h\r\ntraceparent: t\r\nB: 2\r\n");
        assert_eq!(head.text("x-request-id"), Some("r"));
    }
}
