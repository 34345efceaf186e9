//! Who may be invited: users this server can reach, who want to be.

use colonnade_model::{MatrixError, ruma::UserId};
use colonnade_rooms::Result;
use colonnade_rules::account_data::InviteAction;
use colonnade_users::account_data::invite_permission;

use super::service::MembershipService;

impl MembershipService {
    /// Refuses to invite users of servers that this one does not talk to, and those who want no
    /// invitations by this inviter. Every way to invite asks here.
    ///
    /// Source: Matrix v1.19, client-server, "Invite permission".
    ///
    /// # Errors
    /// `M_FORBIDDEN`, `M_INVITE_BLOCKED`.
    pub(crate) async fn require_invitable(&self, inviter: &UserId, user_id: &UserId) -> Result<()> {
        if !self.rooms.is_local(user_id) {
            self.messaging.transport().policy().require(user_id.server_name())?;
            return Ok(());
        }
        let Some(user) = self.context.interned.find_user(user_id).await? else { return Ok(()) };
        let permission = invite_permission(&self.context.db, user).await?;
        // What is ignored is made like any other invitation, and not shown.
        if permission.of(inviter) == InviteAction::Block {
            let why = format!("{user_id} does not want to be invited");
            return Err(MatrixError::new(403, "M_INVITE_BLOCKED", why).into());
        }
        Ok(())
    }
}
