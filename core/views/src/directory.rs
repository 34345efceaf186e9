//! Finding rooms: aliases (`aliases.rs`), the published list (`published.rs`), what a room shows to
//! those who are not in it (`summary.rs`; to other servers, `for_servers.rs`) and the rooms below a
//! space (`hierarchy.rs`, and of other servers `elsewhere.rs`). Changes no room, except that a deleted alias is taken out of the room's own list of them.

mod aliases;
mod elsewhere;
mod for_servers;
mod hierarchy;
mod published;
mod summary;

use std::sync::Arc;

use colonnade_federation::messaging::Messaging;
use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{RoomId, events::TimelineEventType},
};
use colonnade_rooms::{Context, Result, Room, Rooms, no_member};
use colonnade_storage::rooms::members::Membership;

pub use for_servers::ServedSpace;
pub use hierarchy::{Branch, HierarchyPage, HierarchyRequest};
pub use published::{PublishedPage, PublishedRequest};

/// Finds rooms.
pub struct Directory {
    context: Arc<Context>,
    rooms: Rooms,
    messaging: Messaging,
    remote_spaces: elsewhere::RemoteSpaces,
}

impl Directory {
    /// Works on the database of `context`; aliases in the state of a room are changed through `rooms`, other
    /// servers asked through `messaging`.
    pub fn new(context: Arc<Context>, rooms: Rooms, messaging: Messaging) -> Self {
        let clock = Arc::clone(&context.clock);
        let remote_spaces = elsewhere::RemoteSpaces::new(messaging.clone(), clock);
        Self { context, rooms, messaging, remote_spaces }
    }

    /// Returns a room that a member wants to change something about.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if there is none: a stranger is not told which rooms exist.
    async fn room(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        self.rooms.find(room_id).await?.ok_or_else(|| no_member().into())
    }

    /// Refuses who is not in the room, or may not say there what it is called.
    async fn require_naming(&self, session: &Session, room: &Room) -> Result<()> {
        let membership = self.rooms.membership(room.nid, session.user).await?;
        if membership != Some(Membership::Join) {
            return Err(no_member().into());
        }
        if self.may_name(session, room).await? {
            return Ok(());
        }
        let why = "your power level in this room does not allow this";
        Err(MatrixError::forbidden(why).into())
    }

    /// Tells whether a user may change the canonical alias of a room, and so what stands in the
    /// directory about it.
    async fn may_name(&self, session: &Session, room: &Room) -> Result<bool> {
        let levels = self.rooms.power_levels(room).await?;
        let kind = TimelineEventType::RoomCanonicalAlias;
        Ok(levels.is_some_and(|levels| levels.may_send_state(&session.user_id, &kind)))
    }
}
