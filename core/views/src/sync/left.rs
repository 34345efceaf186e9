//! A room the user is no longer in: what was said until the last stay ended, and nothing after but what
//! became of the user.

use colonnade_model::stream::Stream;
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::members::{self, Member, Membership};

use super::{
    chunk::SyncRange,
    response::LeftRoom,
    service::{Sync, SyncContext},
};

impl Sync {
    /// Makes the part of a room the user left, was kicked or banned from, or whose invite ended.
    pub(super) async fn left(
        &self,
        turn: &SyncContext<'_>,
        room: &Room,
        member: &Member,
    ) -> Result<Option<LeftRoom>> {
        let db = &self.context.db;
        if turn.since.is_none() {
            // Forgetting is no event, so what is in memory does not know of it.
            let current = members::get(db, room.nid, member.user).await?;
            if current.is_some_and(|current| current.forgotten) {
                return Ok(None);
            }
        }
        let since = turn.since(Stream::Events);
        let then = members::at(db, room.nid, member.user, since).await?;
        let was_in = then.is_some_and(|then| then.membership == Membership::Join);
        let known = turn.since.is_some() && was_in;
        let point = self.from.rooms.viewpoint_at(member, member.pos).await?;
        let joined_between = point.joined_upto.is_some_and(|joined| joined > since);
        // Whoever never was in sees only how the invite or the knock ended.
        let after = match (known, joined_between) {
            (true, _) => since,
            (false, true) => 0,
            (false, false) if turn.since.is_none() => 0,
            (false, false) => member.pos - 1,
        };
        let stretch = self.stretch(turn, room, after, member.pos).await?;
        let gap = SyncRange {
            after,
            upto: member.pos,
            whole: turn.request.full_state || (!known && (joined_between || turn.since.is_none())),
            known_upto: point.state_upto(),
        };
        let lacking = self.lacking(turn, room, &stretch, gap).await?;
        let state = self.state(turn, room, &stretch, lacking, &[]).await?;
        let since_data = if known { turn.since(Stream::AccountData) } else { 0 };
        let account_data = self.room_data(turn, room, since_data).await?;
        turn.growth.add(account_data.bytes()).await?;
        Ok(Some(LeftRoom { timeline: stretch.into(), state, account_data }))
    }
}
