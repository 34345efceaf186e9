//! Invitations by a third-party id: asking the server of who invited to invite the user, and whether the key that
//! proves whose the id is was taken back.
//!
//! Source: Matrix v1.19, server-server, "Third-party invites".

use std::time::Duration;

use colonnade_model::ruma::{RoomId, ServerName};
use http::Uri;
use serde_json::{Value, json};

use super::{Messaging, MessagingError, escaped, path};
use crate::transport::{FetchBounds, Request};

/// How long the other server may take: it has to invite the user, whose server is this one.
const EXCHANGE: Duration = Duration::from_secs(60);
/// How long a server may take to say whether a key is good, and how large its answer may be.
const KEY_BOUNDS: FetchBounds =
    FetchBounds { within: Duration::from_secs(10), bytes_max: 16 * 1024 };

impl Messaging {
    /// Asks the server of who invited an id to invite the user whom it belongs to.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn exchange(
        &self,
        server: &ServerName,
        room: &RoomId,
        partial: &Value,
    ) -> Result<(), MessagingError> {
        let address = path("v1/exchange_third_party_invite", room, None);
        let request = Request::put(address, partial)?.within(EXCHANGE);
        self.transport.send(server, request).await?;
        Ok(())
    }

    /// Asks the server of ids whether a key of its is still good; one that does not say so is not.
    pub async fn is_key_good(&self, url: &str, key: &str) -> bool {
        let mark = if url.contains('?') { '&' } else { '?' };
        let Ok(address) = format!("{url}{mark}public_key={}", escaped(key)).parse::<Uri>() else {
            return false;
        };
        let asked =
            async { self.transport.fetch(address, KEY_BOUNDS).await?.json::<Value>().await };
        match asked.await {
            Ok(answer) => answer["valid"] == json!(true),
            Err(error) => {
                tracing::info!(url, %error, "nobody says whether a key is good");
                false
            }
        }
    }
}
