//! What was proven before an account is made or changed, and that it is used once.

use colonnade_model::MatrixError;
use colonnade_rooms::Error;
use colonnade_storage::{Result as StorageResult, StorageError, Tx, users::uia as table};

/// Why a transaction is undone that would use a session of stages twice.
const SESSION_GONE: &str = "the session of stages has ended";

/// Every stage of a flow was passed; the session still has to be ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Cleared {
    /// The session, if it is stored.
    pub(super) session: Option<String>,
    /// The digest of the registration token it holds.
    pub(super) token: Option<String>,
    /// The client does not know the session, so nobody can come back to it.
    pub(super) is_unknown: bool,
    /// What was asked for when the session was opened, as JSON; empty: nothing.
    pub(super) request: String,
    /// The user that the session led to already.
    pub(super) made: Option<String>,
}

impl Cleared {
    /// Ends the session, which led to a user, and counts the registration token as used.
    ///
    /// # Errors
    /// When another request ended it: whatever else the transaction does goes with it. [`refusal`] tells
    /// the client.
    pub(super) async fn spend(self, tx: &mut Tx, user_id: String) -> StorageResult<()> {
        if let Some(session) = self.session
            && !table::finish(tx, session, user_id).await?
        {
            return Err(StorageError::Conflict(SESSION_GONE.to_owned()));
        }
        if let Some(token) = self.token {
            table::token_used(tx, token).await?;
        }
        Ok(())
    }
}

/// Tells a client why a transaction that spends what it proved failed.
pub(super) fn refusal(error: StorageError) -> Error {
    match error {
        StorageError::Conflict(why) if why == SESSION_GONE => unknown_session(),
        error => error.into(),
    }
}

/// Tells a client that its session of stages is none.
pub(super) fn unknown_session() -> Error {
    MatrixError::unknown("the authentication session is not known, or took too long").into()
}
