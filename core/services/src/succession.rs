//! What follows a user from a room into the one that replaces it: tags, push rules, and whether it is
//! a direct chat. It touches rooms, account data and push rules, so it belongs to no single service.

use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedRoomId, OwnedUserId, RoomId, RoomOrAliasId, RoomVersionId},
};
use serde_json::{Map, Value};

use crate::{Result, Services, accounts::Session, rooms::Room};

impl Services {
    /// Joins a room; if it replaces another one the user was in, what he keeps about that follows.
    ///
    /// Source: Matrix v1.19, client-server, "Server behaviour" of room upgrades.
    ///
    /// # Errors
    /// As [`Rooms::join`](crate::rooms::Rooms::join).
    pub async fn join(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        wish: Map<String, Value>,
    ) -> Result<OwnedRoomId> {
        let (room, came_in) = self.rooms.join(session, name, wish).await?;
        if came_in {
            self.follow(session, &room).await;
        }
        Ok(room.room_id.clone())
    }

    /// Replaces a room; what the user keeps about it follows.
    ///
    /// # Errors
    /// As [`Rooms::upgrade`](crate::rooms::Rooms::upgrade).
    pub async fn upgrade(
        &self,
        session: &Session,
        room_id: &RoomId,
        version: RoomVersionId,
        additional_creators: &[OwnedUserId],
    ) -> Result<OwnedRoomId> {
        let new = self.rooms.upgrade(session, room_id, version, additional_creators).await?;
        self.follow(session, &new).await;
        Ok(new.room_id.clone())
    }

    /// Being in the room is what was asked for and is done: what fails here only misses a comfort.
    async fn follow(&self, session: &Session, room: &Room) {
        if let Err(error) = self.take_along(session.user, room).await {
            tracing::warn!(%error, room = %room.room_id, "tags and push rules did not follow");
        }
    }

    async fn take_along(&self, user: UserNid, room: &Room) -> Result<()> {
        let Some(old) = self.rooms.predecessor(room).await? else { return Ok(()) };
        if self.rooms.membership(old.nid, user).await?.is_none() {
            return Ok(());
        }
        self.account_data.copy_tags(user, old.nid, room.nid).await?;
        self.account_data.copy_direct(user, &old.room_id, &room.room_id).await?;
        self.push.copy_room(user, &old.room_id, &room.room_id).await
    }
}
