//! What other servers say of who types. They say no more when they are gone, so it runs out.
//!
//! Source: Matrix v1.19, server-server, "Typing Notifications".

use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedRoomId, OwnedUserId},
    stream::Stream,
};
use colonnade_rooms::Result;
use serde::Deserialize;

use super::{Typing, TypingUpdate};

/// How long a user of another server types unless it says so again, in milliseconds. The specification has no
/// number; servers in use say it again within 40 seconds.
const REMOTE_MS: i64 = 60_000;

/// The content of `m.typing` between servers.
#[derive(Debug, Deserialize)]
pub struct RemoteTyping {
    /// Where.
    pub room_id: OwnedRoomId,
    /// Who.
    pub user_id: OwnedUserId,
    /// Types, or stopped.
    pub typing: bool,
}

impl Typing {
    /// Notes what another server says of a user of it, as `user` is known here. That it speaks for the user, and
    /// may take part in the room, is the caller's to know.
    ///
    /// # Errors
    /// `M_FORBIDDEN` outside the room.
    pub async fn receive(&self, user: UserNid, said: RemoteTyping) -> Result<()> {
        let reached = self.context.streams.position(Stream::Events);
        let (room, member) = self.store.joined_member(&said.room_id, user).await?;
        self.tell(TypingUpdate {
            room: room.nid,
            user: said.user_id,
            until: said.typing.then(|| self.context.now_ms() + REMOTE_MS),
            nid: Some(user),
            at: reached.max(member.pos),
        });
        Ok(())
    }
}
