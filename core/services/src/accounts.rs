//! Accounts: who exists, who is logged in.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, UserNid},
    ruma::{OwnedDeviceId, OwnedUserId},
};

use crate::{Context, Result};

/// A logged-in device making a request.
#[derive(Debug, Clone)]
pub struct Session {
    /// The user.
    pub user_id: OwnedUserId,
    /// The user's local id.
    pub user: UserNid,
    /// The device.
    pub device_id: OwnedDeviceId,
    /// The device's local id.
    pub device: DeviceNid,
}

/// Accounts and their sessions.
pub struct Accounts {
    #[expect(dead_code, reason = "the tables follow")]
    context: Arc<Context>,
}

impl Accounts {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Returns the session an access token belongs to.
    ///
    /// # Errors
    /// `M_UNKNOWN_TOKEN` when there is none.
    pub async fn authenticate(&self, _token: &str) -> Result<Session> {
        Err(MatrixError::unknown_token("the access token is not known").into())
    }
}
