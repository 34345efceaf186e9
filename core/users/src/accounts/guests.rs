//! Guests: accounts that anybody may make where the operator lets it, without a password and for one device,
//! and that may do little. A guest can become an ordinary user under the same name.
//!
//! Source: Matrix v1.19, client-server, "Guest access".

use std::net::IpAddr;

use colonnade_model::{MatrixError, nid::UserNid, ruma::OwnedUserId, session::Session};
use colonnade_rooms::Result;
use colonnade_storage::users::guests;

use super::{
    Accounts, LoggedIn, Login,
    cleared::{self, Cleared},
    login::Proven,
    new_account::{NewAccount, NewPassword},
    register::NAME_LENGTH,
};
use crate::profiles::words_of;

impl Accounts {
    /// Makes a guest under a name of our choice, and his session. `device_name` is what his device is called.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN` where the operator wants no guests.
    pub async fn register_guest(
        &self,
        device_name: Option<String>,
        address: Option<IpAddr>,
    ) -> Result<LoggedIn> {
        if !self.context.settings.registration.has_guests() {
            let why = "this server does not have guests";
            return Err(MatrixError::guest_access_forbidden(why).into());
        }
        let user_id =
            self.require_available(&self.context.random.alphanumeric(NAME_LENGTH)).await?;
        let account = NewAccount {
            user_id: &user_id,
            password: None,
            admin: false,
            user_type: None,
            guest: true,
            cleared: Cleared::default(),
        };
        let user = self.create(account).await?;
        let login =
            Login { device_id: None, display_name: device_name, refreshable: false, address };
        let proven = Proven { user, user_id, password: None };
        let mut logged_in = self.open_session(proven, login).await?;
        logged_in.session.is_guest = true;
        Ok(logged_in)
    }

    /// Returns the guest whose access token somebody shows who wants to register under that guest's name.
    ///
    /// # Errors
    /// `M_MISSING_PARAM` without a name, `M_FORBIDDEN` when the token is no guest's of this name.
    pub async fn guest(&self, token: &str, username: Option<&str>) -> Result<Session> {
        let missing = || MatrixError::missing_param("no username: it is the guest's");
        let username = username.ok_or_else(missing)?;
        let why = "the token is not the access token of the guest of this name";
        let session = match self.authenticate(token).await {
            Err(colonnade_rooms::Error::Client(_)) => {
                return Err(MatrixError::forbidden(why).into());
            }
            session => session?,
        };
        if !session.is_guest || session.user_id.localpart() != username {
            return Err(MatrixError::forbidden(why).into());
        }
        Ok(session)
    }

    /// Makes an ordinary account of a guest's. He stays in his rooms, and his session goes on.
    pub(super) async fn upgrade(
        &self,
        cleared: Cleared,
        guest: Session,
        password: NewPassword<'_>,
    ) -> Result<(UserNid, OwnedUserId)> {
        let hashed = self.hashed(password).await?;
        let Session { user, user_id, .. } = guest;
        let (words, name) = (words_of(&user_id, None), user_id.to_string());
        let write = self.context.db.write(move |tx| {
            Box::pin(async move {
                if !guests::upgrade(tx, user, hashed).await? {
                    return Ok(false);
                }
                cleared.spend(tx, name).await?;
                colonnade_storage::users::words::replace(tx, user, words).await?;
                Ok(true)
            })
        });
        if !write.await.map_err(cleared::refusal)? {
            return Err(MatrixError::forbidden("the guest is one no more").into());
        }
        self.cache.remove_where(|known| known.session.user == user);
        Ok((user, user_id))
    }
}
