//! The errors a client may see: an HTTP status, the specification's `errcode`, and a sentence that
//! says what to do. Never carries causes or secrets; those stay in the log.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// An error in the shape of the Matrix specification.
///
/// Source: Matrix v1.19, client-server, "Standard error response".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{errcode}: {message}")]
pub struct MatrixError {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// The specification's code, such as `M_FORBIDDEN`; or what another server said.
    pub errcode: Cow<'static, str>,
    /// A sentence for people.
    pub message: String,
    /// Further members of the JSON object, such as `retry_after_ms` or `soft_logout`.
    pub extra: Map<String, Value>,
}

/// Defines a constructor for each well-known code: name, status, errcode.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal;)*) => {
        impl MatrixError {
            $($(#[$doc])*
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new($status, $code, message)
            })*
        }
    };
}

codes! {
    /// The caller may not do this.
    forbidden = 403 "M_FORBIDDEN";
    /// No access token was given.
    missing_token = 401 "M_MISSING_TOKEN";
    /// The access token is not (or no longer) valid.
    unknown_token = 401 "M_UNKNOWN_TOKEN";
    /// It is not proved who asks.
    unauthorized = 401 "M_UNAUTHORIZED";
    /// JSON, but not of the right shape.
    bad_json = 400 "M_BAD_JSON";
    /// Not JSON at all.
    not_json = 400 "M_NOT_JSON";
    /// The thing asked for does not exist (or may not be seen).
    not_found = 404 "M_NOT_FOUND";
    /// No such endpoint.
    unrecognized = 404 "M_UNRECOGNIZED";
    /// An endpoint, but not with this method.
    method_not_allowed = 405 "M_UNRECOGNIZED";
    /// Anything without a code of its own.
    unknown = 400 "M_UNKNOWN";
    /// Something broke on our side; the cause is in the log.
    internal = 500 "M_UNKNOWN";
    /// The server cannot answer now; trying again later helps.
    unavailable = 503 "M_UNKNOWN";
    /// A required parameter is missing.
    missing_param = 400 "M_MISSING_PARAM";
    /// A parameter has a value that cannot be used.
    invalid_param = 400 "M_INVALID_PARAM";
    /// The user name is taken.
    user_in_use = 400 "M_USER_IN_USE";
    /// The user name breaks the grammar.
    invalid_username = 400 "M_INVALID_USERNAME";
    /// The request or event is too large.
    too_large = 413 "M_TOO_LARGE";
    /// The alias is taken.
    room_in_use = 400 "M_ROOM_IN_USE";
    /// The initial state of a room cannot work.
    invalid_room_state = 400 "M_INVALID_ROOM_STATE";
    /// The room version is not known here.
    unsupported_room_version = 400 "M_UNSUPPORTED_ROOM_VERSION";
    /// The state does not allow this (an alias that does not point here, say).
    bad_alias = 400 "M_BAD_ALIAS";
    /// The password is too weak.
    weak_password = 400 "M_WEAK_PASSWORD";
    /// Guests may not do this.
    guest_access_forbidden = 403 "M_GUEST_ACCESS_FORBIDDEN";
    /// The account is deactivated.
    user_deactivated = 403 "M_USER_DEACTIVATED";
    /// A key backup upload names a version that is not current.
    wrong_room_keys_version = 403 "M_WRONG_ROOM_KEYS_VERSION";
    /// A signature does not verify.
    invalid_signature = 400 "M_INVALID_SIGNATURE";
    /// Media was asked for that was created but is not uploaded yet.
    not_yet_uploaded = 504 "M_NOT_YET_UPLOADED";
    /// Media was uploaded to an id that already has content.
    cannot_overwrite_media = 409 "M_CANNOT_OVERWRITE_MEDIA";
    /// The user is the last to be able to do this, or may not leave.
    cannot_leave_server_notice_room = 403 "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM";
    /// The account is suspended by an administrator: it may not do this.
    user_suspended = 403 "M_USER_SUSPENDED";
    /// The account is locked by an administrator.
    user_locked = 401 "M_USER_LOCKED";
    /// The requested third-party or appservice scope is exclusive.
    exclusive = 400 "M_EXCLUSIVE";
    /// A threepid cannot be used here.
    threepid_denied = 403 "M_THREEPID_DENIED";
    /// The server does not do this.
    not_implemented = 501 "M_UNRECOGNIZED";
}

/// How long another server's code may be, in bytes; the longest of the specification has 33.
const FOREIGN_CODE_BYTES_MAX: usize = 64;

impl MatrixError {
    /// Makes an error with a status, a code and a sentence.
    pub fn new(
        status: u16,
        errcode: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self { status, errcode: errcode.into(), message: message.into(), extra: Map::new() }
    }

    /// Passes on what another server says, under its code if that has the form of one: clients know codes that
    /// nothing here ever makes.
    pub fn foreign(status: u16, errcode: Option<&str>, message: impl Into<String>) -> Self {
        let has_form = |code: &&str| {
            let named = |c: u8| matches!(c, b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'a'..=b'z');
            (1..=FOREIGN_CODE_BYTES_MAX).contains(&code.len()) && code.bytes().all(named)
        };
        let errcode = errcode.filter(has_form).unwrap_or("M_UNKNOWN").to_owned();
        Self::new(status, errcode, message)
    }

    /// Makes a rate-limit error that tells the client when to come back.
    ///
    /// Source: Matrix v1.19, client-server, "Rate limiting".
    pub fn limit_exceeded(retry_after_ms: u64) -> Self {
        Self::new(429, "M_LIMIT_EXCEEDED", "too many requests; try again later")
            .with("retry_after_ms", retry_after_ms)
    }

    /// Adds a member to the JSON object.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// Changes the HTTP status, for the few endpoints that use a code with another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Renders the JSON body.
    pub fn to_json(&self) -> Value {
        let mut body = self.extra.clone();
        body.insert("errcode".to_owned(), (*self.errcode).into());
        body.insert("error".to_owned(), self.message.clone().into());
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::MatrixError;

    #[test]
    fn what_another_server_says_keeps_its_code_if_it_has_the_form_of_one() {
        let code = |code| MatrixError::foreign(400, code, "no").errcode;
        for said in ["M_FORBIDDEN", "M_INCOMPATIBLE_ROOM_VERSION", "ORG_MATRIX_MSC9999_NO", "a.b"] {
            assert_eq!(code(Some(said)), said);
        }
        for said in [None, Some(""), Some("not a code"), Some("<b>"), Some(&*"M".repeat(65))] {
            assert_eq!(code(said), "M_UNKNOWN");
        }
    }
}
