//! Messages to devices here that another server sends: each once, by the id which that server gave it.
//!
//! Source: Matrix v1.19, server-server, "Send-to-device messaging".

use colonnade_model::{
    MatrixError,
    ruma::{OwnedUserId, ServerName, api::client::to_device::send_event_to_device::v3::Messages},
};
use colonnade_rooms::Result;
use colonnade_storage::delivery::to_device::{self, Inbound, Sent};
use serde::Deserialize;

use super::{NAME_LEN_MAX, ToDevice};

/// The content of `m.direct_to_device`.
#[derive(Debug, Deserialize)]
pub struct DirectToDevice {
    /// Who sent it.
    pub sender: OwnedUserId,
    /// The type of the messages.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What its server calls it: the same id is the same messages.
    pub message_id: String,
    /// The messages: by user and device.
    pub messages: Messages,
}

impl ToDevice {
    /// Puts messages of another server into inboxes. Those for devices that do not exist are passed over; an id
    /// that came before brings nothing. That the sender is of that server is the caller's to know.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`, `M_BAD_JSON`, `M_TOO_LARGE` for what can never be delivered; when the database fails.
    pub async fn receive(&self, origin: &ServerName, received: DirectToDevice) -> Result<()> {
        let DirectToDevice { sender, event_type, message_id, messages } = received;
        if event_type.len() > NAME_LEN_MAX || message_id.len() > NAME_LEN_MAX {
            return Err(MatrixError::invalid_param("the type or message id is too long").into());
        }
        let messages = self.addressed(&sender, None, &event_type, &messages).await?;
        if messages.is_empty() {
            return Ok(());
        }
        let nid = self.context.interned.user(&sender).await?;
        let origin = origin.to_string();
        let inbound = Inbound { origin, message_id, ts: self.context.now_ms() };
        let limits = self.context.settings.limits.inbox();
        let receive = self.context.db.write(move |tx| {
            Box::pin(async move { to_device::receive(tx, inbound, nid, messages, limits).await })
        });
        if let Sent::Now { full } = receive.await?
            && full > 0
        {
            tracing::debug!(%sender, full, "inboxes are full: not delivered");
        }
        Ok(())
    }
}
