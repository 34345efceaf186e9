//! Asking another server what it knows: rooms behind its aliases, profiles of its users, its public rooms.
//!
//! Source: Matrix v1.19, server-server, "Querying for information", "Public Room Directory".

use std::time::Duration;

use colonnade_model::ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, ServerName, UserId};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Messaging, MessagingError, escaped};
use crate::transport::Request;

/// How long a server may take: a client waits.
const QUESTION: Duration = Duration::from_secs(20);

/// The room behind an alias.
#[derive(Debug, Deserialize)]
pub struct AliasTarget {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are in it.
    #[serde(default)]
    pub servers: Vec<OwnedServerName>,
}

impl Messaging {
    /// Asks the server of an alias which room it leads to.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn resolve_alias(&self, alias: &RoomAliasId) -> Result<AliasTarget, MessagingError> {
        let alias_escaped = escaped(alias.as_str());
        let address = format!("/_matrix/federation/v1/query/directory?room_alias={alias_escaped}");
        let request = Request::get(address).within(QUESTION).ignoring_backoff();
        Ok(self.transport.send(alias.server_name(), request).await?.json().await?)
    }

    /// Asks a user's server for his profile, or for one field of it.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn profile(
        &self,
        user: &UserId,
        field: Option<&str>,
    ) -> Result<Map<String, Value>, MessagingError> {
        let field = field.map(|field| format!("&field={}", escaped(field))).unwrap_or_default();
        let user_escaped = escaped(user.as_str());
        let address = format!("/_matrix/federation/v1/query/profile?user_id={user_escaped}{field}");
        let request = Request::get(address).within(QUESTION);
        Ok(self.transport.send(user.server_name(), request).await?.json().await?)
    }

    /// Asks a server for its public rooms, by a query of the client-server form.
    ///
    /// # Errors
    /// [`MessagingError`].
    pub async fn public_rooms(
        &self,
        server: &ServerName,
        query: &Value,
    ) -> Result<Value, MessagingError> {
        let request = Request::post("/_matrix/federation/v1/publicRooms", query)?.within(QUESTION);
        Ok(self.transport.send(server, request).await?.json().await?)
    }
}
