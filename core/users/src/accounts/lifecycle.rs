//! What happens to an account after it was made: another password, devices forgotten, the end.

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, UserNid},
    ruma::{OwnedUserId, UserId},
};
use colonnade_rooms::Result;
use colonnade_storage::{
    Result as StorageResult, Tx,
    delivery::pushers,
    keys::{device_lists, encryption},
    users::{
        account_data, accounts, devices, login_addresses, profiles,
        sessions::{self, TokenHash},
        words,
    },
};

use super::{
    Accounts, names,
    new_account::{NewAccount, NewPassword},
};

/// The types of what a device says about its notifications begin so; its name follows.
const NOTIFICATIONS: [&str; 2] =
    ["m.local_notification_settings", "org.matrix.msc3890.local_notification_settings"];

/// Devices of a user that are to be forgotten.
#[derive(Debug, Clone)]
pub(crate) enum Gone {
    /// These.
    These(Vec<DeviceNid>),
    /// All there are.
    All,
    /// All but this one.
    AllBut(DeviceNid),
}

impl Accounts {
    /// Gives the session's user a new password, and logs the other devices out if asked to.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when the password cannot be one.
    pub async fn change_password(
        &self,
        session: &Session,
        password: &str,
        logout_devices: bool,
    ) -> Result<()> {
        self.set_password(session.user, password).await?;
        if !logout_devices {
            return Ok(());
        }
        self.forget_devices(session.user, Gone::AllBut(session.device)).await
    }

    /// Deletes devices of a user with all that belongs to them. Which those are is read in the
    /// transaction: nobody slips in between.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn forget_devices(&self, user: UserNid, gone: Gone) -> Result<()> {
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                let gone = match gone {
                    Gone::These(gone) => gone,
                    Gone::All => devices::all_of(tx, user).await?,
                    Gone::AllBut(kept) => {
                        let all = devices::all_of(tx, user).await?.into_iter();
                        all.filter(|device| *device != kept).collect()
                    }
                };
                if gone.is_empty() {
                    return Ok(Vec::new());
                }
                let names = devices::names(tx, &gone).await?;
                let dead = forget(tx, &gone).await?;
                forget_settings(tx, user, &names).await?;
                device_lists::changed(tx, user, &names).await?;
                Ok(dead)
            })
        });
        self.cache.remove(&write.await?);
        Ok(())
    }

    /// Closes an account for good: profile, tokens and devices are gone, the name stays taken. The
    /// password only tells, to who knows it, that the account is closed.
    /// Rooms are left by `services::Services::deactivate`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn close(&self, user: UserNid, erase: bool) -> Result<()> {
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                accounts::deactivate(tx, user, erase).await?;
                profiles::delete(tx, user).await?;
                words::replace(tx, user, Vec::new()).await?;
                encryption::forget_user(tx, user).await?;
                login_addresses::forget(tx, user).await?;
                sessions::revoke_login_tokens(tx, user).await
            })
        });
        write.await?;
        self.forget_devices(user, Gone::All).await
    }

    // === For the operator ===

    /// Makes an account, whether registration is open or not.
    ///
    /// # Errors
    /// `M_INVALID_USERNAME`, `M_USER_IN_USE`, `M_INVALID_PARAM` when the password cannot be one.
    pub async fn create_user(
        &self,
        name: &str,
        password: &str,
        admin: bool,
    ) -> Result<OwnedUserId> {
        let localpart = name.strip_prefix('@').and_then(|rest| {
            rest.strip_suffix(self.context.server_name.as_str())?.strip_suffix(':')
        });
        let user_id = names::new_user(localpart.unwrap_or(name), &self.context.server_name)?;
        let (password, user_type) = (Some(NewPassword::Plain(password)), None);
        let cleared = Default::default();
        let account =
            NewAccount { user_id: &user_id, password, admin, user_type, guest: false, cleared };
        self.create(account).await?;
        Ok(user_id)
    }

    /// Gives a user a new password and logs all devices out.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such account in use.
    pub async fn reset_password(&self, user_id: &UserId, password: &str) -> Result<()> {
        let account = self.find(user_id).await?.filter(|account| !account.deactivated);
        let account = account.ok_or_else(|| {
            MatrixError::not_found(format!("there is no account {user_id} in use"))
        })?;
        self.set_password(account.user, password).await?;
        self.forget_devices(account.user, Gone::All).await
    }

    /// Tells whether a user may administrate the server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_admin(&self, session: &Session) -> Result<bool> {
        let account = accounts::find(&self.context.db, session.user).await?;
        Ok(account.is_some_and(|account| account.admin && !account.deactivated))
    }

    async fn set_password(&self, user: UserNid, password: &str) -> Result<()> {
        let hashed = self.passwords.hash(password).await?;
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                sessions::revoke_login_tokens(tx, user).await?;
                accounts::set_password(tx, user, hashed).await
            })
        });
        if !write.await? {
            return Err(MatrixError::user_deactivated("this account is not in use").into());
        }
        Ok(())
    }
}

/// Deletes devices with all that belongs to them; `device_lists::changed` follows. Returns the access
/// tokens that died.
pub(super) async fn forget(tx: &mut Tx, gone: &[DeviceNid]) -> StorageResult<Vec<TokenHash>> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let dead = sessions::revoke(tx, gone).await?;
    for device in gone {
        encryption::forget_device(tx, *device).await?;
    }
    pushers::forget_devices(tx, gone).await?;
    devices::delete(tx, gone).await?;
    Ok(dead)
}

/// Deletes what a user's devices said about notifications on them alone. Takes positions: it comes after all that
/// takes none.
///
/// Source: MSC3890.
pub(super) async fn forget_settings(
    tx: &mut Tx,
    user: UserNid,
    names: &[String],
) -> StorageResult<()> {
    let types = names.iter().flat_map(|name| NOTIFICATIONS.map(|of| format!("{of}.{name}")));
    account_data::delete(tx, user, None, &types.collect::<Vec<_>>()).await
}
