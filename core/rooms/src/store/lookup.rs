//! Finding rooms by what others call them, what their state says of them, who may do what and which room they
//! replace; and events as they are now.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{OwnedRoomId, RoomAliasId, RoomId, RoomOrAliasId},
    session::Session,
};
use colonnade_rules::power::PowerLevels;
use colonnade_storage::rooms::{
    directory,
    members::{self, Membership},
};
use serde_json::Value;

use super::{Room, RoomEvent, Store};
use crate::Result;
use crate::refusals::unknown_room;

impl Store {
    /// Finds the room that an id or alias names.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is none here.
    pub async fn resolve(&self, name: &RoomOrAliasId) -> Result<Arc<Room>> {
        if let Ok(alias) = <&RoomAliasId>::try_from(name) {
            let target = directory::resolve(&self.context.db, alias).await?;
            let target = target.ok_or_else(|| MatrixError::not_found("no such room alias"))?;
            return self.room(target.room).await;
        }
        let room_id = <&RoomId>::try_from(name).map_err(|_| unknown_room())?;
        Ok(self.find(room_id).await?.ok_or_else(unknown_room)?)
    }

    /// Returns what is known of an event now, where that is in memory: it may have been redacted by one that was
    /// found missing in the past of the room, of which no position tells.
    pub fn current(&self, event: Arc<RoomEvent>) -> Arc<RoomEvent> {
        self.events.get(&event.nid).unwrap_or(event)
    }

    /// Returns the rooms a user is in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn joined_rooms(&self, session: &Session) -> Result<Vec<OwnedRoomId>> {
        let joined = members::rooms_of(&self.context.db, session.user, &[Membership::Join]).await?;
        let nids: Vec<_> = joined.iter().map(|member| member.room).collect();
        let rooms = self.rooms(&nids).await?;
        Ok(rooms.iter().map(|room| room.room_id.clone()).collect())
    }

    /// Returns the current power levels of a room; `None` when they are malformed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn power_levels(&self, room: &Room) -> Result<Option<PowerLevels>> {
        let state = self.head(room.nid).await?.state;
        let Some(create) = self.state_event_at(state, "m.room.create", "").await? else {
            return Ok(None);
        };
        let levels = self.state_event_at(state, "m.room.power_levels", "").await?;
        let levels = levels.as_ref().map(|levels| &*levels.event);
        Ok(PowerLevels::new(&create.event, levels, &room.rules.authorization).ok())
    }

    /// Returns the room that a room replaces, if it is known here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn predecessor(&self, room: &Room) -> Result<Option<Arc<Room>>> {
        let create = self.state_event(room.nid, "m.room.create", "").await?;
        let create: Option<Value> = create.and_then(|create| create.event.content_as().ok());
        let named = create.as_ref().and_then(|create| create["predecessor"]["room_id"].as_str());
        match named.and_then(|named| RoomId::parse(named).ok()) {
            Some(old) => self.find(&old).await,
            None => Ok(None),
        }
    }
}
