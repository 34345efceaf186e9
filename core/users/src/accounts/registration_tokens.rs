//! Registration tokens: which there are, until when, and for how many accounts. The configuration
//! says so; the database counts. A session that holds a token has one use of it pending, and one that
//! led to an account completes it, in the transaction that makes the account.
//!
//! Source: Matrix v1.19, client-server, "Token-authenticated registration".

use std::sync::Arc;

use colonnade_model::MatrixError;
use colonnade_rooms::{Context, Result, settings::RegistrationToken};
use colonnade_storage::users::uia::{self, Hold};
use subtle::ConstantTimeEq as _;

use super::auth::LIFETIME_MS;

/// The registration tokens.
pub(super) struct RegistrationTokens {
    context: Arc<Context>,
}

impl RegistrationTokens {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Returns what a token is good for, used up or not.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when there is none, or its time is over.
    pub(super) fn require(&self, token: &str) -> Result<&RegistrationToken, MatrixError> {
        let now_ms = self.context.now_ms();
        // Looks at all of them, in a time that does not say which letter differs.
        let tokens = &self.context.settings.registration.tokens;
        let same = |listed: &RegistrationToken| {
            bool::from(listed.token.as_bytes().ct_eq(token.as_bytes()))
        };
        let found = tokens.iter().fold(None, |found, listed| {
            let is_same = same(listed);
            found.or_else(|| is_same.then_some(listed))
        });
        let lasts =
            |token: &&RegistrationToken| token.expiry_time_ms.is_none_or(|end| now_ms < end);
        let invalid = || MatrixError::forbidden("the registration token is not valid");
        found.filter(lasts).ok_or_else(invalid)
    }

    /// Returns how a session holds a token.
    ///
    /// # Errors
    /// As [`RegistrationTokens::require`].
    pub(super) fn hold(&self, token: &str) -> Result<Hold, MatrixError> {
        let uses_max = self.require(token)?.uses_allowed.map(i64::from);
        let oldest_ts = self.context.now_ms() - LIFETIME_MS;
        Ok(Hold { token: digest(token), uses_max, oldest_ts })
    }

    /// Tells whether a token could be used now.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn is_valid(&self, token: &str) -> Result<bool> {
        let Ok(hold) = self.hold(token) else { return Ok(false) };
        let Some(max) = hold.uses_max else { return Ok(true) };
        Ok(uia::token_uses(&self.context.db, &hold.token, hold.oldest_ts).await? < max)
    }
}

/// Names a token in the database, which holds nothing by which somebody could register.
fn digest(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}
