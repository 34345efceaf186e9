//! Closing an account for good: it touches the account, its devices and every room, so it belongs
//! to no single service.

use colonnade_model::{MatrixError, ruma::UserId};
use colonnade_rooms::Result;

use crate::Services;

impl Services {
    /// Closes an account: nobody can log in any more, every room is left, the name stays taken.
    ///
    /// Source: Matrix v1.19, client-server, `POST /_matrix/client/v3/account/deactivate`.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such account in use.
    pub async fn deactivate(&self, user_id: &UserId, erase: bool) -> Result<()> {
        let account = self.accounts.find(user_id).await?.filter(|account| !account.deactivated);
        let unknown = || MatrixError::not_found(format!("there is no account {user_id} in use"));
        let user = account.ok_or_else(unknown)?.user;
        // First the door, then the rooms: nobody can come back in while they are left.
        self.accounts.close(user, erase).await?;
        self.membership.leave_everywhere(user_id, user).await
    }
}
