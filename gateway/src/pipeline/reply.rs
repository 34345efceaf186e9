//! Answers the gateway gives itself, in the shape Matrix clients expect: JSON with `errcode` and
//! `error`, and the CORS header without which a browser would not even show the error.

use bytes::Bytes;

use crate::routing::request_target::TargetError;
use crate::routing::routes::{Method, Methods};

/// An error the gateway answers itself (Matrix v1.19, client-server, §API Standards).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The Matrix error code.
    pub errcode: &'static str,
    /// What a person reads.
    pub error: &'static str,
    /// After how many milliseconds trying again makes sense.
    pub retry_after_ms: Option<u64>,
    /// The methods that the path has, where this one is none of them (RFC 9110 §15.5.6).
    pub allow: Option<Methods>,
}

const fn reply(status: u16, errcode: &'static str, error: &'static str) -> Reply {
    Reply { status, errcode, error, retry_after_ms: None, allow: None }
}

/// No rule knows the path.
pub const UNKNOWN_PATH: Reply = reply(404, "M_UNRECOGNIZED", "Unrecognized request");
/// Rules know the path with other methods only.
pub const WRONG_METHOD: Reply = reply(405, "M_UNRECOGNIZED", "Unrecognized request method");
/// The request could not be understood as HTTP.
pub const MALFORMED: Reply = reply(400, "M_UNKNOWN", "Malformed HTTP request");
/// Path, query or who asks could be read in several ways, or in none.
pub const UNCLEAR_TARGET: Reply =
    reply(400, "M_UNKNOWN", "The request can be understood in more than one way");
/// Path and query are longer than allowed.
pub const TARGET_TOO_LONG: Reply = reply(414, "M_TOO_LARGE", "Request path or query too long");
/// The body is larger than the rule allows.
pub const BODY_TOO_LARGE: Reply = reply(413, "M_TOO_LARGE", "Request body too large");
/// The request line and headers are larger than allowed.
pub const HEADER_TOO_LARGE: Reply = reply(431, "M_TOO_LARGE", "Request headers too large");
/// The headers or the body did not arrive in time.
pub const TOO_SLOW: Reply = reply(408, "M_UNKNOWN", "Request did not arrive in time");
/// The worker broke off or answered with something that is not HTTP.
pub const BAD_WORKER: Reply = reply(502, "M_UNKNOWN", "The server could not answer this request");
/// The worker did not answer in time.
pub const WORKER_TOO_SLOW: Reply = reply(504, "M_UNKNOWN", "The server took too long to answer");
/// No worker can take the request now.
pub const NO_WORKER: Reply = Reply {
    status: 503,
    errcode: "M_UNKNOWN",
    error: "The server is not ready for this request, try again soon",
    retry_after_ms: Some(1_000),
    allow: None,
};
/// The client asks too much; [`Reply::after`] says for how long.
pub const LIMIT_EXCEEDED: Reply = reply(429, "M_LIMIT_EXCEEDED", "Too many requests");
/// Something is wrong in the gateway itself.
pub const INTERNAL: Reply = reply(500, "M_UNKNOWN", "Internal server error");

/// The CORS headers of every answer (Matrix v1.19, client-server, §Web Browser Clients).
pub const CORS: [(&str, &str); 3] = [
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
    ("access-control-allow-headers", "X-Requested-With, Content-Type, Authorization"),
];

/// How long a browser may remember a preflight, in seconds; Chromium's own maximum is two hours.
pub const PREFLIGHT_MAX_AGE_S: &str = "7200";

impl From<TargetError> for Reply {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::TooLong => TARGET_TOO_LONG,
            TargetError::Unclear => UNCLEAR_TARGET,
        }
    }
}

impl Reply {
    /// Finds the reply for a status that the HTTP layer below decided on.
    pub fn for_status(status: u16) -> Self {
        match status {
            404 => UNKNOWN_PATH,
            405 => WRONG_METHOD,
            408 => TOO_SLOW,
            413 => BODY_TOO_LARGE,
            429 => LIMIT_EXCEEDED,
            431 => HEADER_TOO_LARGE,
            400..=499 => MALFORMED,
            502 => BAD_WORKER,
            503 => NO_WORKER,
            504 => WORKER_TOO_SLOW,
            _ => INTERNAL,
        }
    }

    /// The same reply, with the time after which trying again makes sense.
    #[must_use]
    pub fn after(self, retry_after_ms: u64) -> Self {
        Self { retry_after_ms: Some(retry_after_ms), ..self }
    }

    /// The same reply, with the methods that would do.
    #[must_use]
    pub fn allowing(self, methods: Methods) -> Self {
        Self { allow: Some(methods), ..self }
    }

    /// The JSON body.
    pub fn body(&self) -> Bytes {
        let after = match self.retry_after_ms {
            Some(ms) if self.status == LIMIT_EXCEEDED.status => {
                format!(r#","retry_after_ms":{ms}"#)
            }
            _ => String::new(),
        };
        let (errcode, error) = (self.errcode, self.error);
        Bytes::from(format!(r#"{{"errcode":"{errcode}","error":"{error}"{after}}}"#))
    }

    /// The headers that go with the body; `length` is the body's.
    pub fn headers(&self, length: usize, cors: bool) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("content-length", length.to_string()),
        ];
        if let Some(ms) = self.retry_after_ms {
            headers.push(("retry-after", ms.div_ceil(1_000).to_string()));
        }
        if let Some(methods) = self.allow {
            // Preflights are answered at the door.
            let methods = if cors { methods.with(Method::Options) } else { methods };
            headers.push(("allow", methods.names().join(", ")));
        }
        if cors {
            headers.extend(CORS.iter().map(|(name, value)| (*name, (*value).to_owned())));
        }
        headers
    }

    /// The whole answer as HTTP/1.1 bytes that also end the connection, for requests that never
    /// became one.
    pub fn parting_bytes(&self) -> Bytes {
        let body = self.body();
        let phrase = match self.status {
            400 => "Bad Request",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            414 => "URI Too Long",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            _ => "Error",
        };
        let mut text = format!("HTTP/1.1 {} {phrase}\r\nconnection: close\r\n", self.status);
        for (name, value) in self.headers(body.len(), true) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&body);
        Bytes::from(bytes)
    }
}

#[cfg(test)]
mod tests;
