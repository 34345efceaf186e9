//! A room the user is no longer in: what was said until the last stay ended, and nothing after but what
//! became of the user.

use colonnade_model::stream::Stream;
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::members::{self, Member, Membership};

use super::{
    at_hand::AtHand,
    chunk::SyncRange,
    service::{Sync, SyncContext},
    state::state_key,
    writer::Writer,
};

impl Sync {
    /// Writes the part of a room the user left, was kicked or banned from, or whose invite ended.
    pub(super) async fn left(
        &self,
        context: &SyncContext,
        room: &Room,
        member: &Member,
        out: &mut Writer,
    ) -> Result<()> {
        let db = &self.context.db;
        if context.since.is_none() {
            // Forgetting is no event, so what is in memory does not know of it.
            let current = members::get(db, room.nid, member.user).await?;
            if current.is_some_and(|current| current.forgotten) {
                return Ok(());
            }
        }
        let since = context.since(Stream::Events);
        let then = members::at(db, room.nid, member.user, since).await?;
        let was_in = then.is_some_and(|then| then.membership == Membership::Join);
        let known = context.since.is_some() && was_in;
        let point = self.from.rooms.viewpoint_at(member, member.pos).await?;
        let joined_between = point.joined_upto.is_some_and(|joined| joined > since);
        // Whoever never was in sees only how the invite or the knock ended.
        let after = match (known, joined_between) {
            (true, _) => since,
            (false, true) => 0,
            (false, false) if context.since.is_none() => 0,
            (false, false) => member.pos - 1,
        };
        let at_hand = AtHand::default();
        let chunk = self.timeline_chunk(context, room, (after, member.pos), &at_hand).await?;
        let gap = SyncRange {
            after,
            upto: member.pos,
            whole: context.request.full_state
                || (!known && (joined_between || context.since.is_none())),
            known_upto: point.state_upto(),
        };
        let missing = self.missing_state(context, room, &chunk, (gap, &at_hand)).await?;
        let state = self.state(context, room, &chunk, missing, &[]).await?;
        let since_data = if known { context.since(Stream::AccountData) } else { 0 };
        let account_data = self.room_data(context, room, since_data).await?;
        out.begin_room("leave", &room.room_id);
        out.timeline(chunk.into()).await?;
        out.events("account_data", account_data).await?;
        out.events(state_key(context), state).await?;
        out.end_room();
        Ok(())
    }
}
