//! What another server is shown of a space: its rooms as far as somebody there could read them or come in.
//!
//! Source: Matrix v1.19, server-server, `GET /_matrix/federation/v1/hierarchy/{roomId}`.

use colonnade_model::{
    MatrixError,
    ruma::{OwnedRoomId, RoomId, ServerName, room::RoomSummary},
};
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::{
    members::{self, Membership},
    servers, summaries,
};

use super::{Directory, hierarchy::Branch, summary};

/// Rooms of a space that are shown: clients ask for no more of a page.
const CHILDREN_SHOWN: usize = 500;
/// Users of a server whose memberships are looked at: one that is invited is enough.
const USERS_MAX: i64 = 200;

/// A space as another server is shown it.
pub struct ServedSpace {
    /// The space.
    pub room: Branch,
    /// Rooms in it.
    pub children: Vec<RoomSummary>,
    /// Rooms in it that nobody of that server can see or join.
    pub inaccessible: Vec<OwnedRoomId>,
}

impl Directory {
    /// Returns what another server is shown of a space.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such room here, or nobody of that server can see or join it.
    pub async fn space_for(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> Result<ServedSpace> {
        let unknown = || MatrixError::not_found("no such room, or none that your server may see");
        let room = self.rooms.find(room_id).await?.ok_or_else(unknown)?;
        let Some(Look::Shown(shown)) = self.look_for(origin, &room).await? else {
            return Err(unknown().into());
        };
        let is_space = shown.room_type.as_ref().is_some_and(|kind| kind.as_str() == "m.space");
        let below = match is_space {
            true => self.children(&room, suggested_only).await?,
            false => Vec::new(),
        };
        let (mut children, mut inaccessible) = (Vec::new(), Vec::new());
        for child in below.iter().take(CHILDREN_SHOWN) {
            let Some(room) = self.rooms.find(&child.room_id).await? else { continue };
            match self.look_for(origin, &room).await? {
                Some(Look::Shown(shown)) => children.push(*shown),
                Some(Look::Hidden) => inaccessible.push(child.room_id.clone()),
                None => {}
            }
        }
        let children_state = below.into_iter().map(|child| child.stripped).collect();
        let room = Branch { summary: *shown, children_state };
        Ok(ServedSpace { room, children, inaccessible })
    }

    /// Returns what a room shows to another server; `None` of a room that this server is not in.
    async fn look_for(&self, origin: &ServerName, room: &Room) -> Result<Option<Look>> {
        if !self.rooms.is_resident(room).await? {
            return Ok(None);
        }
        let Some(summary) = summaries::get(&self.context.db, room.nid).await? else {
            return Ok(None);
        };
        if !self.messaging.admits(room, origin).await? {
            return Ok(Some(Look::Hidden));
        }
        let restricted = matches!(summary.join_rule.as_str(), "restricted" | "knock_restricted");
        let allowed = if restricted { self.allowed_rooms(room.nid).await? } else { Vec::new() };
        let is_open = matches!(summary.join_rule.as_str(), "public" | "knock" | "knock_restricted");
        let visible = is_open
            || summary::is_world_readable(&summary)
            || servers::is_in(&self.context.db, room.nid, origin.as_str()).await?
            || self.has_members(origin, &allowed).await?
            || self.is_invited(origin, room).await?;
        Ok(Some(match visible {
            true => Look::Shown(Box::new(summary::shown(room, summary, allowed))),
            false => Look::Hidden,
        }))
    }

    async fn has_members(&self, server: &ServerName, rooms: &[OwnedRoomId]) -> Result<bool> {
        for room_id in rooms {
            let Some(room) = self.rooms.find(room_id).await? else { continue };
            if servers::is_in(&self.context.db, room.nid, server.as_str()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_invited(&self, server: &ServerName, room: &Room) -> Result<bool> {
        let ending = format!(":{server}");
        let users = members::named(&self.context.db, room.nid, &ending, USERS_MAX).await?;
        for (user, _) in users {
            if self.rooms.membership(room.nid, user).await? == Some(Membership::Invite) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a room shows.
enum Look {
    /// This.
    Shown(Box<RoomSummary>),
    /// Nothing to that server.
    Hidden,
}
