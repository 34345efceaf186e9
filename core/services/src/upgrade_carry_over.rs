//! What follows a user from a room into the one that replaces it: tags, push rules, and whether it is
//! a direct chat. It touches rooms, account data and push rules, so it belongs to no single service.

use colonnade_model::session::Session;
use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomOrAliasId, RoomVersionId},
};
use colonnade_rooms::{Result, Room, Sent};
use colonnade_storage::rooms::members::Membership;
use serde_json::{Map, Value, value::RawValue};

use crate::{Services, lifecycle::NewRoomRequest, membership::is_own_member_event};

impl Services {
    /// Joins a room; if it replaces another one the user was in, what he keeps about that follows.
    ///
    /// Source: Matrix v1.19, client-server, "Server behaviour" of room upgrades.
    ///
    /// # Errors
    /// As [`MembershipService::join`](crate::membership::MembershipService::join).
    pub async fn join(
        &self,
        session: &Session,
        name: &RoomOrAliasId,
        via: &[OwnedServerName],
        extra: Map<String, Value>,
    ) -> Result<OwnedRoomId> {
        let (room, came_in) = self.membership.join(session, name, via, extra).await?;
        if came_in {
            self.follow(session, &room).await;
        }
        Ok(room.room_id.clone())
    }

    /// Makes a room; if the request says that it replaces another one the user had to do with, what he
    /// keeps about that follows.
    ///
    /// # Errors
    /// As [`RoomLifecycle::create`](crate::lifecycle::RoomLifecycle::create).
    pub async fn create_room(
        &self,
        session: &Session,
        request: NewRoomRequest,
    ) -> Result<OwnedRoomId> {
        let replaces = |content: &Value| content["predecessor"].is_object();
        let is_successor = request.creation_content.as_ref().is_some_and(replaces);
        let room_id = self.lifecycle.create(session, request).await?;
        if is_successor && let Some(room) = self.rooms.find(&room_id).await? {
            self.follow(session, &room).await;
        }
        Ok(room_id)
    }

    /// Sends a state event; if it is a join by hand, what the user keeps about a room this one replaces
    /// follows as at any other join.
    ///
    /// # Errors
    /// As [`MembershipService::set_state`](crate::membership::MembershipService::set_state).
    pub async fn set_state(
        &self,
        session: &Session,
        room_id: &RoomId,
        event_type: &str,
        state_key: &str,
        body: &RawValue,
    ) -> Result<Sent> {
        let is_own = is_own_member_event(session, event_type, state_key);
        let outside = match self.rooms.find(room_id).await?.filter(|_| is_own) {
            Some(room) => {
                let was = self.rooms.membership(room.nid, session.user).await?;
                (was != Some(Membership::Join)).then_some(room)
            }
            None => None,
        };
        let sent = self.membership.set_state(session, room_id, event_type, state_key, body).await?;
        if let Some(room) = outside {
            let is = self.rooms.membership(room.nid, session.user).await?;
            if is == Some(Membership::Join) {
                self.follow(session, &room).await;
            }
        }
        Ok(sent)
    }

    /// Replaces a room; what the user keeps about it follows.
    ///
    /// # Errors
    /// As [`RoomLifecycle::upgrade`](crate::lifecycle::RoomLifecycle::upgrade).
    pub async fn upgrade(
        &self,
        session: &Session,
        room_id: &RoomId,
        version: RoomVersionId,
        additional_creators: &[OwnedUserId],
    ) -> Result<OwnedRoomId> {
        let new = self.lifecycle.upgrade(session, room_id, version, additional_creators).await?;
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
