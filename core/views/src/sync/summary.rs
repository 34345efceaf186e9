//! Who is in a room, and whom a room without a name is named after.
//!
//! Source: Matrix v1.19, client-server, "GET /sync", `RoomSummary`.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, UserId},
};
use colonnade_rooms::{Context, Result, Room};
use colonnade_rules::summary::{Candidate, heroes};
use colonnade_storage::rooms::{
    heads as room_rows,
    members::{self, Membership},
    summaries,
};

use super::{
    response::Summary,
    service::{Sync, SyncContext},
};

/// Members read to find the heroes among: five, and the viewer.
const CANDIDATES_MAX: i64 = 6;

impl Sync {
    /// Makes a room's summary.
    pub(super) async fn summary(&self, context: &SyncContext, room: &Room) -> Result<Summary> {
        let db = &self.context.db;
        let head = room_rows::head(db, room.nid).await?;
        let (joined, invited) = head.map_or((0, 0), |head| (head.joined, head.invited));
        let named = summaries::get(db, room.nid).await?;
        let has_name =
            named.is_some_and(|named| named.name.is_some() || named.canonical_alias.is_some());
        let viewer = (&*context.viewer.user_id, context.viewer.user);
        let heroes = match has_name {
            true => None,
            false => Some(heroes_of(&self.context, room.nid, viewer).await?),
        };
        Ok(Summary { heroes, joined: Some(joined), invited: Some(invited) })
    }
}

/// Returns whom a room without a name is named after, as a viewer sees it.
///
/// # Errors
/// When the database fails.
pub async fn heroes_of(
    context: &Context,
    room: RoomNid,
    (viewer, viewer_nid): (&UserId, UserNid),
) -> Result<Vec<OwnedUserId>> {
    let db = &context.db;
    let present = [Membership::Join, Membership::Invite];
    let mut found = members::first_members(db, room, &present, CANDIDATES_MAX).await?;
    if found.iter().all(|member| member.user == viewer_nid) {
        let gone = [Membership::Leave, Membership::Ban];
        found.extend(members::first_members(db, room, &gone, CANDIDATES_MAX).await?);
    }
    let nids: Vec<_> = found.iter().map(|member| member.user).collect();
    let users = context.interned.user_ids(&nids).await?;
    let candidates = found.into_iter().zip(users).map(|(member, user)| Candidate {
        user,
        membership: member.membership.state(),
        position: member.pos,
    });
    Ok(heroes(viewer, candidates))
}
