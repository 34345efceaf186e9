//! Narrows events to those a user may see, by the history visibility and the user's membership at
//! each of them, and takes out the words of erased users. Events of a page mostly share their states,
//! so a page costs few lookups.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::nid::{StateNid, UserNid};
use colonnade_rules::visibility::{Around, Sight, Visibility, may_see};
use colonnade_storage::{
    accounts,
    members::{self, Membership},
};

use super::{Shown, Timeline, Viewer};
use crate::{Error, Result, rooms::Room};

/// What a state says about the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    visibility: Visibility,
    membership: Option<Membership>,
}

impl Timeline {
    /// Keeps of `page` what `viewer` may see, and notes the viewer's membership on each.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn visible(
        &self,
        viewer: &Viewer,
        room: &Room,
        page: Vec<Shown>,
    ) -> Result<Vec<Shown>> {
        if page.is_empty() {
            return Ok(page);
        }
        let db = &self.context.db;
        let last_join = members::get(db, room.nid, viewer.user).await?;
        let joined_now =
            last_join.as_ref().is_some_and(|member| member.membership == Membership::Join);
        let mut looked_up = HashMap::new();
        let mut seen = Vec::with_capacity(page.len());
        for mut shown in page {
            let before = self.said(viewer, shown.row.state_before, &mut looked_up).await?;
            let after = self.said(viewer, shown.row.state_after, &mut looked_up).await?;
            let joined_later = joined_now || {
                let pos = shown.row.pos.unwrap_or(0);
                last_join.is_some() && members::joined_after(db, room.nid, viewer.user, pos).await?
            };
            let state = |said: Said| said.membership.map(Membership::state);
            let sight = Sight {
                visibility: Around { before: before.visibility, after: after.visibility },
                membership: Around { before: state(before), after: state(after) },
                joined_later,
            };
            // Everybody may know what became of himself: an invite that ended, a ban.
            let is_own = shown.row.event.membership().is_some()
                && shown.row.event.state_key() == Some(viewer.user_id.as_str());
            if is_own || may_see(&sight) {
                shown.membership = Some(after.membership.unwrap_or(Membership::Leave));
                seen.push(shown);
            }
        }
        self.without_erased(viewer, room, &mut seen).await?;
        Ok(seen)
    }

    /// Takes the content out of what users said who wanted it forgotten, where the viewer was not in
    /// the room to hear it.
    ///
    /// Source: Matrix v1.19, client-server, `POST /_matrix/client/v3/account/deactivate`, `erase`.
    async fn without_erased(&self, viewer: &Viewer, room: &Room, page: &mut [Shown]) -> Result<()> {
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
                let left = shown.row.event.redacted(&room.rules);
                let left = left.map_err(|error| Error::internal("redact an event", error))?;
                Arc::make_mut(&mut shown.row).event = Arc::new(left);
            }
        }
        Ok(())
    }

    /// Looks up, once per state, what it says about the viewer.
    async fn said(
        &self,
        viewer: &Viewer,
        state: Option<StateNid>,
        looked_up: &mut HashMap<StateNid, Said>,
    ) -> Result<Said> {
        let nothing = Said { visibility: Visibility::default(), membership: None };
        let Some(state) = state else { return Ok(nothing) };
        if let Some(said) = looked_up.get(&state) {
            return Ok(*said);
        }
        let rooms = &self.rooms;
        let found = rooms.state_event_at(state, "m.room.history_visibility", "").await?;
        let visibility = Visibility::of(found.as_ref().map(|found| &*found.event));
        let user = viewer.user_id.as_str();
        let member = rooms.state_event_at(state, "m.room.member", user).await?;
        let membership = member.and_then(|found| found.event.membership());
        let membership = membership.as_ref().and_then(Membership::of);
        let said = Said { visibility, membership };
        looked_up.insert(state, said);
        Ok(said)
    }
}
