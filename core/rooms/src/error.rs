//! What a service can answer besides its value: an error the client is told, a demand for
//! authentication, or a fault of ours that only the log may describe.

use colonnade_model::MatrixError;
use colonnade_storage::StorageError;

use crate::quotas;

/// The result of every service call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a service call did not give its value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client is told.
    #[error(transparent)]
    Client(#[from] MatrixError),
    /// The client has to authenticate further; the JSON body of the 401 answer.
    ///
    /// Source: Matrix v1.19, client-server, "User-interactive authentication API".
    #[error("user-interactive authentication is needed")]
    UserInteractive(serde_json::Value),
    /// A fault of ours: logged once with its cause, told to the client as `M_UNKNOWN`.
    #[error("cannot {doing}")]
    Internal {
        /// What was being done, as in "cannot …".
        doing: &'static str,
        /// Why it failed.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Wraps a fault with what was being done, as in "cannot …".
    pub fn internal(
        doing: &'static str,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Internal { doing, cause: Box::new(cause) }
    }
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Unavailable(why) => {
                tracing::warn!(%why, "the database is not available");
                MatrixError::unavailable("the database is not available; try again later").into()
            }
            // Whatever is a name, an id or a key is text, and a client sent it.
            StorageError::NotText => {
                MatrixError::invalid_param("a name, an id or a key contains the character U+0000")
                    .into()
            }
            StorageError::Full(full) => quotas::over(&full).into(),
            StorageError::Dangling(alias) => {
                MatrixError::bad_alias(format!("{alias} does not point to this room")).into()
            }
            other => Self::internal("use the database", other),
        }
    }
}

#[cfg(test)]
mod tests {
    use colonnade_storage::quota::Bound;

    use super::*;

    #[test]
    fn what_a_client_can_do_something_about_has_a_code() {
        let bound = Bound { setting: "limits.filters_max", max: 3 };
        let full = colonnade_storage::quota::Full { what: "filters", bound, in_bytes: false };
        for (error, status, errcode) in [
            (StorageError::Unavailable("away".to_owned()), 503, "M_UNKNOWN"),
            (StorageError::NotText, 400, "M_INVALID_PARAM"),
            (StorageError::Full(full), 403, "M_FORBIDDEN"),
            (StorageError::Dangling("#a:b".to_owned()), 400, "M_BAD_ALIAS"),
        ] {
            let Error::Client(told) = Error::from(error) else { panic!("{errcode} is told") };
            assert_eq!((told.status, &*told.errcode), (status, errcode));
        }
    }

    #[test]
    fn what_is_our_fault_is_told_to_nobody() {
        for error in [
            StorageError::Conflict("key".to_owned()),
            StorageError::Fenced("gone".to_owned()),
            StorageError::Failed("syntax".to_owned()),
            StorageError::corrupt("events", "codec", 1, "unknown"),
        ] {
            let error = Error::from(error);
            assert!(matches!(error, Error::Internal { .. }), "{error}");
            assert_eq!(error.to_string(), "cannot use the database");
        }
    }
}
