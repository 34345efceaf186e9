//! Inviting, leaving and moderating: member events about others, and the ways out.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{RoomId, UserId},
};
use colonnade_rooms::{Result, Room, proposal::member};
use colonnade_storage::rooms::members::{self, Membership};

use super::service::MembershipService;

/// What a user is who has something to do with a room, or asks for it.
const PRESENT: [Membership; 3] = [Membership::Join, Membership::Invite, Membership::Knock];

impl MembershipService {
    /// Invites a user.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the inviter may not, or the user is in the room or banned;
    /// `M_INVITE_BLOCKED` if the user wants no invitations.
    pub async fn invite(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        let room = self.rooms.known_to(session, room_id).await?;
        self.require_invitable(&session.user_id, target).await?;
        if self.membership_of(&room, target).await? == Some(Membership::Join) {
            return Err(MatrixError::forbidden(format!("{target} is in the room already")).into());
        }
        if self.rooms.is_local(target) {
            return self.set_membership(session, &room, target, "invite", reason).await;
        }
        let content = self.member_content(target, "invite", reason).await?;
        self.invite_elsewhere(&room, &session.user_id, target, content).await
    }

    /// Leaves a room, turns an invitation down, or takes a knock back. Leaving a room once more
    /// changes nothing.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user never had to do with the room, or is banned.
    pub async fn leave(
        &self,
        session: &Session,
        room_id: &RoomId,
        reason: Option<&str>,
    ) -> Result<()> {
        let room = self.rooms.known_to(session, room_id).await?;
        if self.rooms.membership(room.nid, session.user).await? == Some(Membership::Leave) {
            return Ok(());
        }
        if self.rooms.is_elsewhere(&room).await? {
            let content = self.member_content(&session.user_id, "leave", reason).await?;
            return self.leave_over(&room, &session.user_id, content).await;
        }
        self.set_membership(session, &room, &session.user_id, "leave", reason).await
    }

    /// Takes a user out of every room he is in, invited to or knocks at, for good.
    ///
    /// # Errors
    /// When the database fails. A room that does not let the user go is skipped.
    pub async fn leave_everywhere(&self, user_id: &UserId, user: UserNid) -> Result<()> {
        let present = members::rooms_of(&self.context.db, user, &PRESENT).await?;
        let nids: Vec<_> = present.iter().map(|member| member.room).collect();
        for room in self.rooms.rooms(&nids).await? {
            let content = self.member_content(user_id, "leave", None).await?;
            if self.rooms.is_elsewhere(&room).await? {
                self.leave_over(&room, user_id, content).await?;
                continue;
            }
            if let Err(error) = self.rooms.propose(&room, member(user_id, user_id, content)).await {
                tracing::warn!(room = %room.room_id, %error, "cannot take a user out of a room");
            }
        }
        Ok(())
    }

    /// Removes a user from a room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the remover may not, or the user is not in the room.
    pub async fn kick(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        self.put_out(session, room_id, target, (&PRESENT, "in the room"), reason).await
    }

    /// Bans a user from a room, who need not be in it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the banner may not.
    pub async fn ban(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        let room = self.rooms.known_to(session, room_id).await?;
        self.set_membership(session, &room, target, "ban", reason).await
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the user may not, or there is no ban.
    pub async fn unban(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<&str>,
    ) -> Result<()> {
        self.put_out(session, room_id, target, (&[Membership::Ban], "banned"), reason).await
    }

    /// Notes that a user does not want to hear of a room again that he left.
    ///
    /// # Errors
    /// `M_UNKNOWN` if he has not left it.
    pub async fn forget(&self, session: &Session, room_id: &RoomId) -> Result<()> {
        let Some(room) = self.rooms.find(room_id).await? else { return Ok(()) };
        let user = session.user;
        match self.rooms.membership(room.nid, user).await? {
            None => return Ok(()),
            Some(Membership::Leave | Membership::Ban) => {}
            Some(_) => return Err(MatrixError::unknown("leave the room before").into()),
        }
        let room = room.nid;
        let forgotten = self
            .context
            .db
            .write(move |tx| Box::pin(async move { members::forget(tx, room, user).await }));
        if forgotten.await? {
            return Ok(());
        }
        Err(MatrixError::unknown("leave the room before").into())
    }

    /// Proposes that a user leaves who is one of these in a room, which has a name for them.
    async fn put_out(
        &self,
        session: &Session,
        room_id: &RoomId,
        target: &UserId,
        (those, named): (&[Membership], &str),
        reason: Option<&str>,
    ) -> Result<()> {
        let room = self.rooms.known_to(session, room_id).await?;
        let membership = self.membership_of(&room, target).await?;
        if !membership.is_some_and(|membership| those.contains(&membership)) {
            return Err(MatrixError::forbidden(format!("{target} is not {named}")).into());
        }
        self.set_membership(session, &room, target, "leave", reason).await
    }

    /// Proposes that a user becomes something in a room.
    async fn set_membership(
        &self,
        session: &Session,
        room: &Arc<Room>,
        target: &UserId,
        membership: &str,
        reason: Option<&str>,
    ) -> Result<()> {
        let content = self.member_content(target, membership, reason).await?;
        self.rooms.propose(room, member(&session.user_id, target, content)).await?;
        Ok(())
    }

    async fn membership_of(&self, room: &Room, user_id: &UserId) -> Result<Option<Membership>> {
        match self.context.interned.find_user(user_id).await? {
            Some(user) => self.rooms.membership(room.nid, user).await,
            None => Ok(None),
        }
    }
}
