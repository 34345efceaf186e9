//! Why another server did not give what it was asked for, by what the caller does about it.

use colonnade_model::MatrixError;

/// Why a request to another server failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// This server does not speak with it, or not at the address it is at. Trying again does not help.
    #[error("{0}")]
    Refused(String),
    /// It cannot be reached, or could not a short while ago.
    #[error("not reached: {why}")]
    NotReached {
        /// The cause.
        why: String,
        /// Until when it is left alone, in milliseconds since the Unix epoch.
        until_ms: Option<i64>,
    },
    /// It did not answer in time.
    #[error("it did not answer in time")]
    TimedOut,
    /// It answered with an error.
    #[error("it answered {status} {} {message}", .errcode.as_deref().unwrap_or("without a code:"))]
    Status {
        /// The HTTP status.
        status: u16,
        /// The specification's code, if it said one.
        errcode: Option<String>,
        /// What it says about it; for people.
        message: String,
        /// The version of a room that is not known where the request came from, if that is why.
        room_version: Option<String>,
        /// When to come back, in milliseconds, if it said so.
        retry_after_ms: Option<u64>,
        /// Where it says that the answer is, as it says so.
        location: Option<String>,
    },
    /// Its answer is not what the endpoint answers.
    #[error("its answer cannot be read: {0}")]
    Malformed(String),
    /// Its answer is larger than the caller takes.
    #[error("its answer is larger than {bytes_max} bytes")]
    TooLarge {
        /// What the caller takes, in bytes.
        bytes_max: u64,
    },
}

impl TransportError {
    /// Says whether the other server, as far as one can tell, is not there: what is sent to it has to wait.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NotReached { .. } | Self::TimedOut => true,
            // It waited for a file.
            Self::Status { errcode: Some(code), .. } if code == "M_NOT_YET_UPLOADED" => false,
            // What stands before a server says so of it.
            Self::Status { status, .. } => matches!(status, 502..=504 | 520..=527),
            Self::Refused(_) | Self::Malformed(_) | Self::TooLarge { .. } => false,
        }
    }

    /// Says whether the other server does not know the endpoint: an older one may be there.
    pub fn is_unrecognized(&self) -> bool {
        let Self::Status { status, errcode, .. } = self else { return false };
        match errcode.as_deref() {
            Some(code) => code == "M_UNRECOGNIZED",
            None => matches!(status, 400 | 404 | 405 | 501),
        }
    }

    /// Turns it into what a client is told that wanted something of `server`.
    pub fn to_client(&self, server: &str) -> MatrixError {
        match self {
            Self::Refused(why) => MatrixError::forbidden(why.clone()),
            Self::Status { errcode: Some(code), message, status, .. } if *status < 500 => {
                MatrixError::foreign(*status, Some(code), format!("{server} says: {message}"))
            }
            Self::Status { .. } | Self::Malformed(_) | Self::TooLarge { .. } => {
                MatrixError::unknown(format!("{server}: {self}")).with_status(502)
            }
            Self::NotReached { .. } | Self::TimedOut => {
                MatrixError::unknown(format!("{server} cannot be reached now: {self}"))
                    .with_status(502)
            }
        }
    }
}
