//! What administrators keep users from: locking an account, and suspending it.
//!
//! Source: Matrix v1.19, client-server, "Account locking", "Account suspension", "Server administration".

use colonnade_model::{MatrixError, nid::UserNid, ruma::UserId, session::Session};
use colonnade_rooms::Result;
use colonnade_storage::users::accounts;

pub use colonnade_storage::users::accounts::RestrictionKind;

use super::Accounts;

impl Accounts {
    /// Tells an administrator whether a user is kept from something.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the one who asks is no administrator, or the user is one; `M_INVALID_PARAM` for a user of
    /// another server; `M_NOT_FOUND` when there is no such account in use.
    pub async fn is_restricted(
        &self,
        by: &Session,
        user_id: &UserId,
        kind: RestrictionKind,
    ) -> Result<bool> {
        let user = self.restrictable(by, user_id).await?;
        Ok(accounts::is_restricted(&self.context.db, user, kind).await?)
    }

    /// Has an administrator keep a user from something, or no more.
    ///
    /// # Errors
    /// As [`Accounts::is_restricted`].
    pub async fn restrict(
        &self,
        by: &Session,
        user_id: &UserId,
        kind: RestrictionKind,
        on: bool,
    ) -> Result<()> {
        let user = self.restrictable(by, user_id).await?;
        let write = self
            .context
            .db
            .write(move |tx| Box::pin(async move { accounts::restrict(tx, user, kind, on).await }));
        write.await?;
        self.cache.remove_where(|known| known.session.user == user);
        let by = &by.user_id;
        tracing::info!(%by, %user_id, ?kind, on, "an administrator restricts an account");
        Ok(())
    }

    /// Finds a user whom an administrator may restrict. Whether there is one is said to administrators alone.
    async fn restrictable(&self, by: &Session, user_id: &UserId) -> Result<UserNid> {
        if !self.is_admin(by).await? {
            return Err(MatrixError::forbidden("only an administrator may do this").into());
        }
        if user_id.server_name() != self.context.server_name {
            return Err(MatrixError::invalid_param("this user is not of this server").into());
        }
        let account = self.find(user_id).await?.filter(|account| !account.deactivated);
        let account = account.ok_or_else(|| MatrixError::not_found("there is no such user"))?;
        match account.admin {
            true => Err(MatrixError::forbidden("this user is an administrator").into()),
            false => Ok(account.user),
        }
    }
}
