//! Arguments of a path that a handler reads itself.

use colonnade_model::MatrixError;

/// The router gives as many arguments as the path has, so this is never seen.
pub(super) fn no_arguments() -> MatrixError {
    MatrixError::not_found("the path names no media")
}
