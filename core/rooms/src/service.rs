//! The rooms of this server as others use them.

use std::{ops::Deref, sync::Arc};

use colonnade_model::{ruma::RoomId, session::Session};

use crate::{Context, Result};
use crate::{
    actor::{Actors, committer::Committer},
    refusals::no_member,
    remote::policy_servers::PolicyServers,
    store::{Room, Store},
};

/// The rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    pub(super) store: Arc<Store>,
    pub(super) actors: Actors,
    pub(super) committer: Committer,
    pub(super) policy_servers: Arc<dyn PolicyServers>,
}

impl Deref for Rooms {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Rooms {
    /// Starts the rooms.
    pub fn start(context: &Arc<Context>, policy_servers: Arc<dyn PolicyServers>) -> Self {
        let store = Arc::new(Store::new(Arc::clone(context)));
        let committer = Committer::start(context.db.clone(), Arc::clone(&context.slots));
        let actors = Actors::new(Arc::clone(&store), committer.clone());
        Self { store, actors, committer, policy_servers }
    }

    /// Returns what of the rooms is in memory, to subscribe it to changes.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Waits until a room of this process lets guests in no more.
    pub async fn closed_to_guests(&self) {
        self.store.closed_to_guests.notified().await;
    }

    /// Tells whether a room lets guests in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_guests(&self, room: &Room) -> Result<bool> {
        let access = self.state_event(room.nid, "m.room.guest_access", "").await?;
        let content: Option<serde_json::Value> =
            access.and_then(|event| event.event.content_as().ok());
        Ok(content.is_some_and(|content| content["guest_access"] == "can_join"))
    }

    /// Returns a room a user wants to write to; whether he may is found out where it is written.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is none: a stranger is not told which rooms exist.
    pub async fn known(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        Ok(self.find(room_id).await?.ok_or_else(no_member)?)
    }

    /// Returns a room a user has or had to do with.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is none, or he never had: a stranger is not told which.
    pub async fn known_to(&self, session: &Session, room_id: &RoomId) -> Result<Arc<Room>> {
        let room = self.known(room_id).await?;
        self.membership(room.nid, session.user).await?.ok_or_else(no_member)?;
        Ok(room)
    }
}
