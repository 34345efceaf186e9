//! Closing an account for good: it touches the account, its devices and every room, so it belongs
//! to no single service.

use colonnade_model::nid::UserNid;

use crate::{Result, Services};

impl Services {
    /// Closes an account: nobody can log in any more, the name stays taken.
    ///
    /// Source: Matrix v1.19, client-server, `POST /_matrix/client/v3/account/deactivate`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deactivate(&self, user: UserNid, erase: bool) -> Result<()> {
        self.accounts.close(user, erase).await
    }
}
