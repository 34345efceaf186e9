//! Refreshing access tokens, and logging out. A refresh token lives until one of the tokens it was
//! exchanged for is used, so that a lost answer does not log anybody out.
//!
//! Source: Matrix v1.19, client-server, "Refreshing access tokens".

use colonnade_model::session::{Restriction, Session};
use colonnade_model::{MatrixError, nid::DeviceNid};
use colonnade_rooms::Result;
use colonnade_storage::users::sessions::{self, TokenHash};

use super::{Accounts, LoggedIn, lifecycle::Gone, tokens};

impl Accounts {
    /// Exchanges a refresh token for a new access token and a new refresh token.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN` when the refresh token is not known (any more).
    pub async fn refresh(&self, token: &str) -> Result<LoggedIn> {
        let unknown = || MatrixError::unknown_token("the refresh token is not known");
        let db = &self.context.db;
        let used = tokens::hash(token);
        let found = sessions::find_refresh(db, used).await?.ok_or_else(unknown)?;
        let (device, user, replaced) = found;
        if let Some(replaced) = replaced {
            self.retire(device, replaced).await?;
        }
        let user_id = self.context.interned.user_id(user).await?;
        let minted = self.mint(&user_id, device, true, Some(used));
        let stored = minted.stored;
        let write = db.write(move |tx| {
            Box::pin(async move {
                let Some(dead) = sessions::claim_refresh(tx, used).await? else { return Ok(None) };
                sessions::insert(tx, stored).await?;
                Ok(Some(dead))
            })
        });
        self.cache.remove(&write.await?.ok_or_else(unknown)?);
        let known = colonnade_storage::users::devices::list(db, user).await?;
        let known = known.into_iter().find(|known| known.device == device).ok_or_else(unknown)?;
        Ok(LoggedIn {
            // Guests have no refresh tokens.
            session: Session {
                user_id,
                user,
                device_id: known.device_id,
                device,
                is_guest: false,
                restriction: Restriction::None,
                address: None,
            },
            access_token: minted.access,
            refresh_token: minted.refresh,
            expires_in_ms: minted.expires_in_ms,
        })
    }

    /// Ends the life of a refresh token whose successor came into use.
    pub(super) async fn retire(&self, device: DeviceNid, replaced: TokenHash) -> Result<()> {
        let write =
            self.context.db.write(move |tx| Box::pin(sessions::retire(tx, device, replaced)));
        self.cache.remove(&write.await?);
        Ok(())
    }

    /// Logs a device out: its tokens and the device itself are gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn logout(&self, session: &Session) -> Result<()> {
        self.forget_devices(session.user, Gone::These(vec![session.device])).await
    }

    /// Logs a user out everywhere.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn logout_all(&self, session: &Session) -> Result<()> {
        self.forget_devices(session.user, Gone::All).await
    }
}
