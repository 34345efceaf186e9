//! Rooms: what is in them, and how something comes to be in them.
//!
//! Reading is [`Store`]'s, to which [`Rooms`] dereferences. Writing goes one way (`send.rs` and its
//! neighbours → `actor.rs`, one per room → `work.rs` → `ingest.rs`, the one door → `committer.rs`,
//! one transaction for many rooms): nothing else writes events.

use std::{ops::Deref, sync::Arc};

use colonnade_model::{
    MatrixError,
    ruma::{CanonicalJsonObject, CanonicalJsonValue, RoomId},
};
use colonnade_rules::event::Event;
use serde_json::Value;

mod actor;
mod change;
mod checks;
mod committer;
mod create;
mod errand;
mod fork;
mod ingest;
mod invitation;
mod join;
mod moderate;
mod own_rules;
mod presets;
mod profile;
mod send;
mod sight;
mod store;
mod stripped;
mod summary;
mod unread;
mod upgrade;
mod viewpoint;
mod work;

pub use create::NewRoomWish;
pub(crate) use join::unknown_room;
pub use presets::Preset;
pub(crate) use sight::Eye;
pub use store::{Room, RoomEvent, Store};
pub(crate) use viewpoint::Standing;
pub(crate) use work::RelatesTo;
pub use work::Sent;

use crate::{Context, Result, accounts::Session};

/// The rooms of this server. Cheap to clone.
#[derive(Clone)]
pub struct Rooms {
    store: Arc<Store>,
    actors: actor::Actors,
    committer: committer::Committer,
}

impl Deref for Rooms {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Rooms {
    /// Starts the rooms.
    pub fn start(context: &Arc<Context>) -> Self {
        let store = Arc::new(Store::new(Arc::clone(context)));
        let committer = committer::Committer::start(context.db.clone(), Arc::clone(&context.slots));
        let actors = actor::Actors::new(Arc::clone(&store), committer.clone());
        Self { store, actors, committer }
    }

    /// Takes an event that somebody else made, whose hash and signatures were checked.
    ///
    /// Returns once it is stored; one that is rejected or soft-failed is stored and shown to nobody.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when an event it follows or is allowed by is not known.
    pub async fn receive(&self, room: &Arc<Room>, event: Event) -> Result<Sent> {
        let mut sent = self.actors.ask(room, actor::Ask::Receive(Box::new(event))).await?;
        let none = || MatrixError::internal("no answer for an event");
        Ok(sent.pop().ok_or_else(none)?)
    }

    /// Returns a room a user wants to write to; whether he may is found out where it is written.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is none: a stranger is not told which rooms exist.
    async fn known(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        Ok(self.find(room_id).await?.ok_or_else(no_member)?)
    }

    /// Returns a room a user has or had to do with.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is none, or he never had: a stranger is not told which.
    async fn known_to(&self, session: &Session, room_id: &RoomId) -> Result<Arc<Room>> {
        let room = self.known(room_id).await?;
        self.membership(room.nid, session.user).await?.ok_or_else(no_member)?;
        Ok(room)
    }
}

/// What a stranger is told of a room, whether it exists or not.
pub(crate) fn no_member() -> MatrixError {
    MatrixError::forbidden("you are not a member of this room")
}

/// What is told of an event that is not in the room, and of one that the user may not see: the same.
pub(crate) fn no_event() -> MatrixError {
    MatrixError::not_found("there is no such event in this room")
}

/// Takes JSON as the content of an event.
///
/// # Errors
/// `M_BAD_JSON` when it is no object or contains what canonical JSON does not allow.
fn content(value: Value) -> Result<CanonicalJsonObject, MatrixError> {
    match CanonicalJsonValue::try_from(value) {
        Ok(CanonicalJsonValue::Object(content)) => Ok(content),
        Ok(_) => Err(MatrixError::bad_json("the content of an event is an object")),
        Err(error) => Err(MatrixError::bad_json(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
