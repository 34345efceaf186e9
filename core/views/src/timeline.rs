//! What a user reads of a room's past: pages of the timeline, single events and their surroundings,
//! related events, threads. Decides who may see what; never writes.
//!
//! Events come in as rows ([`StoredEvent`]), are narrowed by [`Timeline::visible`], and leave as
//! client JSON by [`Timeline::render`]. Sync uses the same two steps.

mod bundle;
mod context;
mod far;
mod lens;
mod notifications;
mod pages;
mod pieces;
mod related;
mod render;
mod search;
mod sight;
mod state;

use std::sync::Arc;

use colonnade_federation::messaging::Messaging;
use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{DeviceNid, EventNid, UserNid},
    ruma::{OwnedUserId, RoomId, UserId},
};
use colonnade_rooms::{Context, Eye, Result, Room, RoomEvent, Rooms, Standing};
use colonnade_rules::visibility::Visibility;
use colonnade_storage::rooms::{events::StoredEvent, members::Membership};
use colonnade_users::account_data::AccountDataService;

pub use colonnade_storage::rooms::aggregations::Direction;
pub use context::Surroundings;
pub use notifications::{NotificationsPage, NotificationsRequest, RoomContexts};
pub use pages::{Page, PageRequest};
pub use pieces::{JoinedMembers, MemberProfile, StateEvents};
pub use related::{RelatedPage, RelatedRequest};
pub(crate) use render::Invitations;
pub use render::{Bundles, PAGE_BYTES_MAX};
pub use search::WordIndex;
pub use search::{Found, SearchRequest};

/// Reads the past of rooms.
pub struct Timeline {
    context: Arc<Context>,
    rooms: Rooms,
    account_data: Arc<AccountDataService>,
    words: WordIndex,
    /// What other servers have of the past.
    history: Messaging,
}

/// Who reads.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The user.
    pub user: UserNid,
    /// The user's id.
    pub user_id: OwnedUserId,
    /// The device, for the transaction ids it sent with.
    pub device: DeviceNid,
}

impl From<&Session> for Viewer {
    fn from(session: &Session) -> Self {
        Self { user: session.user, user_id: session.user_id.clone(), device: session.device }
    }
}

impl Viewer {
    /// Who looks.
    pub(crate) fn eye(&self) -> Eye<'_> {
        Eye { user: self.user, user_id: &self.user_id }
    }
}

/// An event on its way to a client: its row and what it says.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The event and what is known about it here.
    pub row: Arc<RoomEvent>,
    /// The viewer's membership after the event; known once visibility was checked.
    pub membership: Option<Membership>,
    /// The viewer may know the state the event happened in; known once visibility was checked. What
    /// became of himself somebody is told wherever he was: that is no look into the room.
    pub shows_state: bool,
}

impl From<Arc<RoomEvent>> for Shown {
    fn from(row: Arc<RoomEvent>) -> Self {
        Self { row, membership: None, shows_state: false }
    }
}

impl Timeline {
    /// Reads `rooms`, leaves out whom the reader ignores by `account_data`, and searches by `words`.
    pub fn new(
        context: Arc<Context>,
        rooms: Rooms,
        account_data: Arc<AccountDataService>,
        words: WordIndex,
        history: Messaging,
    ) -> Self {
        Self { context, rooms, account_data, words, history }
    }

    /// Finds a room whose past the user may look into at all: members and former members who have
    /// not forgotten it, and everybody if the room is world readable now.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for others, and for rooms that do not exist: that is not told apart.
    pub async fn open(&self, viewer: &Viewer, room_id: &RoomId) -> Result<Arc<Room>> {
        let forbidden = || MatrixError::forbidden("you are not in this room and never were");
        let room = self.rooms.find(room_id).await?.ok_or_else(forbidden)?;
        let point = self.rooms.viewpoint(viewer.user, room.nid).await?;
        let knocks = point.member.as_ref().is_some_and(|m| m.membership == Membership::Knock);
        let was_in = point.standing != Standing::Never;
        // Who was only invited looks at what the visibility shows to the invited.
        if point.remembers() && (was_in || !knocks) {
            return Ok(room);
        }
        if self.is_world_readable(&room).await? {
            return Ok(room);
        }
        Err(forbidden().into())
    }

    /// Tells whether anybody may read the room now.
    pub(crate) async fn is_world_readable(&self, room: &Room) -> Result<bool> {
        let found = self.rooms.state_event(room.nid, "m.room.history_visibility", "").await?;
        let visibility = Visibility::of(found.as_ref().map(|found| &*found.event));
        Ok(visibility == Visibility::WorldReadable)
    }

    /// Parses rows.
    ///
    /// # Errors
    /// When a row does not hold an event.
    pub async fn shown(&self, rows: Vec<StoredEvent>) -> Result<Vec<Shown>> {
        Ok(self.rooms.parsed(rows).await?.into_iter().map(Shown::from).collect())
    }

    /// Reads events, leaving out those that do not exist.
    pub(crate) async fn read(&self, nids: &[EventNid]) -> Result<Vec<Shown>> {
        Ok(self.rooms.events(nids).await?.into_iter().map(Shown::from).collect())
    }

    /// Returns whether the user ignores the sender of an event.
    pub(crate) fn is_from(&self, shown: &Shown, users: &[OwnedUserId]) -> bool {
        users.iter().any(|user| AsRef::<UserId>::as_ref(user) == shown.row.event.sender())
    }
}
