//! What other servers ask about users and aliases of this one.
//!
//! Source: Matrix v1.19, server-server, "Querying for information".

use colonnade_model::{
    MatrixError,
    ruma::{OwnedRoomId, OwnedServerName, RoomAliasId, ServerName, UserId},
};
use colonnade_rooms::Result;
use colonnade_storage::rooms::{directory, servers};

use serde_json::{Map, Value};

use super::FederationService;
use crate::membership::told;

/// Servers named as ways into a room.
const SERVERS_MAX: usize = 50;

/// A room behind an alias, with servers that are in it.
pub type AliasTarget = (OwnedRoomId, Vec<OwnedServerName>);

impl FederationService {
    /// Returns the room behind an alias of this server.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<AliasTarget> {
        if alias.server_name() != self.context.server_name {
            return Err(MatrixError::not_found("an alias of another server").into());
        }
        let unknown = || MatrixError::not_found("no such room alias");
        let target = directory::resolve(&self.context.db, alias).await?.ok_or_else(unknown)?;
        let room = self.rooms.room(target.room).await?;
        let mut others = servers::of_rooms(&self.context.db, &[room.nid]).await?;
        others.retain(|server| server.joined > 0);
        others.sort_by_key(|server| std::cmp::Reverse(server.joined));
        let ours = std::iter::once(self.context.server_name.clone());
        let servers = ours.chain(others.into_iter().map(|server| server.server));
        Ok((room.room_id.clone(), servers.take(SERVERS_MAX).collect()))
    }

    /// Returns the room behind an alias of any server.
    ///
    /// # Errors
    /// `M_NOT_FOUND`; what the other server says.
    pub async fn resolve(&self, alias: &RoomAliasId) -> Result<AliasTarget> {
        if alias.server_name() == self.context.server_name {
            return self.alias(alias).await;
        }
        let target = self.messaging.resolve_alias(alias).await.map_err(told)?;
        Ok((target.room_id, target.servers))
    }

    /// Returns the profile of a user of another server, or one field of it.
    ///
    /// # Errors
    /// `M_NOT_FOUND`; what the other server says.
    pub async fn profile(&self, user: &UserId, field: Option<&str>) -> Result<Map<String, Value>> {
        self.messaging.profile(user, field).await.map_err(told)
    }

    /// Returns a page of another server's public rooms, asked for as clients ask for it.
    ///
    /// # Errors
    /// What the other server says.
    pub async fn public_rooms(&self, server: &ServerName, query: &Value) -> Result<Value> {
        self.messaging.public_rooms(server, query).await.map_err(told)
    }
}
