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
