//! Narrows events to those a user may see, by the history visibility and the user's membership at
//! each of them, and takes out the words of erased users. The states of all of them are asked at once.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::nid::{RoomNid, StateNid, UserNid};
use colonnade_rules::visibility::{Around, Sight, Visibility, may_see, may_see_state};
use colonnade_storage::{accounts, members::Membership};

use super::{Shown, Timeline, Viewer};
use crate::{Error, Result};

/// What a state says about the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Said {
    visibility: Visibility,
    membership: Option<Membership>,
}

impl Timeline {
    /// Keeps of `page`, whose events may be of several rooms, what `viewer` may see, and notes the
    /// viewer's membership on each.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn visible(&self, viewer: &Viewer, page: Vec<Shown>) -> Result<Vec<Shown>> {
        if page.is_empty() {
            return Ok(page);
        }
        let rooms: BTreeSet<RoomNid> = page.iter().map(|shown| shown.row.room).collect();
        let rooms: Vec<RoomNid> = rooms.into_iter().collect();
        let points = self.viewpoints(viewer.user, &rooms).await?;
        let said = self.said(viewer, &page).await?;
        let said_by = |state: Option<StateNid>| {
            state.and_then(|state| said.get(&state)).copied().unwrap_or_default()
        };
        let mut seen = Vec::with_capacity(page.len());
        for mut shown in page {
            let (before, after) = (said_by(shown.row.state_before), said_by(shown.row.state_after));
            let joined_upto = points.get(&shown.row.room).and_then(|point| point.joined_upto);
            let state = |said: Said| said.membership.map(Membership::state);
            let sight = Sight {
                visibility: Around { before: before.visibility, after: after.visibility },
                membership: Around { before: state(before), after: state(after) },
                joined_later: joined_upto.is_some_and(|upto| shown.row.pos.unwrap_or(0) < upto),
            };
            // Everybody may know what became of himself: an invite that ended, a ban.
            let is_own = shown.row.event.membership().is_some()
                && shown.row.event.state_key() == Some(viewer.user_id.as_str());
            if is_own || may_see(&sight) {
                shown.membership = Some(after.membership.unwrap_or(Membership::Leave));
                shown.shows_state = may_see_state(&sight);
                seen.push(shown);
            }
        }
        self.without_erased(viewer, &mut seen).await?;
        Ok(seen)
    }

    /// Takes the content out of what users said who wanted it forgotten, where the viewer was not in
    /// the room to hear it.
    ///
    /// Source: Matrix v1.19, client-server, `POST /_matrix/client/v3/account/deactivate`, `erase`.
    async fn without_erased(&self, viewer: &Viewer, page: &mut [Shown]) -> Result<()> {
        let unheard = |shown: &Shown| {
            shown.membership != Some(Membership::Join) && shown.row.sender != viewer.user
        };
        let mut senders: Vec<UserNid> =
            page.iter().filter(|shown| unheard(shown)).map(|shown| shown.row.sender).collect();
        if senders.is_empty() {
            return Ok(());
        }
        senders.sort_unstable();
        senders.dedup();
        let erased = accounts::erased_among(&self.context.db, &senders).await?;
        for shown in page.iter_mut().filter(|shown| unheard(shown)) {
            if erased.contains(&shown.row.sender) {
                self.redact(shown).await?;
            }
        }
        Ok(())
    }

    /// Leaves of an event what a redaction would leave.
    pub(super) async fn redact(&self, shown: &mut Shown) -> Result<()> {
        let room = self.rooms.room(shown.row.room).await?;
        let left = shown.row.event.redacted(&room.rules);
        let left = left.map_err(|error| Error::internal("redact an event", error))?;
        Arc::make_mut(&mut shown.row).event = Arc::new(left);
        Ok(())
    }

    /// Looks up what the states around the events of a page say about the viewer.
    async fn said(&self, viewer: &Viewer, page: &[Shown]) -> Result<HashMap<StateNid, Said>> {
        let around = |shown: &Shown| [shown.row.state_before, shown.row.state_after];
        let states: BTreeSet<StateNid> = page.iter().flat_map(around).flatten().collect();
        let states: Vec<StateNid> = states.into_iter().collect();
        let user = viewer.user_id.as_str();
        let visibilities =
            self.rooms.state_events_across(&states, "m.room.history_visibility", "").await?;
        let members = self.rooms.state_events_across(&states, "m.room.member", user).await?;
        let said = states.into_iter().map(|state| {
            let visibility = Visibility::of(visibilities.get(&state).map(|found| &*found.event));
            let membership = members.get(&state).and_then(|found| found.event.membership());
            let membership = membership.as_ref().and_then(Membership::of);
            (state, Said { visibility, membership })
        });
        Ok(said.collect())
    }
}
