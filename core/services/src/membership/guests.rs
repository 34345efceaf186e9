//! Guests in rooms: they come in where `m.room.guest_access` lets them, and leave when it does no more.
//!
//! Source: Matrix v1.19, client-server, "Guest access", server behaviour.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    session::Session,
};
use colonnade_rooms::{Result, Room, proposal::member};
use colonnade_storage::users::guests;

use super::service::MembershipService;
use crate::services::Services;

/// How often it is looked for guests whom nobody told to leave, since the process that would have ended: seldom,
/// for it happens seldom, and the statement reads the guests alone.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);
/// Guests looked at together: bounds memory.
const TOGETHER_MAX: i64 = 500;

impl MembershipService {
    /// Makes sure that a user may come into a room that this server is in, if he is a guest.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN`.
    pub(super) async fn require_guests_welcome(&self, who: &Session, room: &Room) -> Result<()> {
        if !who.is_guest || self.rooms.has_guests(room).await? {
            return Ok(());
        }
        Err(MatrixError::guest_access_forbidden("this room lets no guests in").into())
    }

    /// Takes a guest out of a room again that turns out to let none in: it was another server's, or has
    /// changed while he came.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN` when it does.
    pub(super) async fn keep_if_welcome(&self, who: &Session, room: &Arc<Room>) -> Result<()> {
        let welcome = self.require_guests_welcome(who, room).await;
        if welcome.is_err() {
            self.see_out(room, who.user).await?;
        }
        welcome
    }

    async fn see_out(&self, room: &Arc<Room>, guest: UserNid) -> Result<()> {
        let user_id = self.context.interned.user_id(guest).await?;
        let why = "this room lets no guests in any more";
        let content = self.member_content(&user_id, "leave", Some(why)).await?;
        self.rooms.propose(room, member(&user_id, &user_id, content)).await?;
        Ok(())
    }

    /// Has every guest leave who is in a room that lets none in.
    ///
    /// # Errors
    /// When the database fails. A room that does not let a guest go is skipped.
    async fn see_guests_out(&self) -> Result<()> {
        let mut after = (RoomNid(i64::MIN), UserNid(i64::MIN));
        loop {
            let found = guests::in_closed_rooms(&self.context.db, after, TOGETHER_MAX).await?;
            let Some(last) = found.last() else { return Ok(()) };
            after = *last;
            for (room, guest) in found {
                let room = self.rooms.room(room).await?;
                if let Err(error) = self.see_out(&room, guest).await {
                    tracing::warn!(room = %room.room_id, %error, "cannot take a guest out of a room");
                }
            }
        }
    }
}

/// Sees guests out of rooms as long as the services live.
pub(crate) fn start(services: &Arc<Services>) {
    tokio::spawn(watch(Arc::downgrade(services)));
}

async fn watch(services: Weak<Services>) {
    loop {
        let Some(alive) = services.upgrade() else { return };
        let rooms = alive.rooms.clone();
        if let Err(error) = alive.membership.see_guests_out().await {
            tracing::warn!(%error, "guests stay in rooms that let none in; it is tried again later");
        }
        drop(alive);
        let _looked_for_anyway = tokio::time::timeout(LOOK_EVERY, rooms.closed_to_guests()).await;
    }
}
