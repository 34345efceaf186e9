//! Narrows events to those a user may see (`rooms/sight.rs` decides), and takes out the words of erased
//! users.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::nid::UserNid;
use colonnade_rooms::{Error, Result, RoomEvent, Seen, Viewpoint};
use colonnade_storage::{rooms::members::Membership, users::accounts};

use super::{Shown, Timeline, Viewer};

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
        let events: Vec<&RoomEvent> = page.iter().map(|shown| &*shown.row).collect();
        let sights = self.rooms.sights(viewer.eye(), &events).await?;
        self.seen(viewer, page, sights).await
    }

    /// [`Timeline::visible`] where all events are of one room, and it is known from where the viewer looks at
    /// it.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn visible_from(
        &self,
        viewer: &Viewer,
        point: &Viewpoint,
        page: Vec<Shown>,
    ) -> Result<Vec<Shown>> {
        let Some(first) = page.first() else { return Ok(page) };
        let points = HashMap::from([(first.row.room, point.clone())]);
        let events: Vec<&RoomEvent> = page.iter().map(|shown| &*shown.row).collect();
        let sights = self.rooms.sights_from(viewer.eye(), &events, &points).await?;
        self.seen(viewer, page, sights).await
    }

    /// Keeps of `page` what is seen.
    async fn seen(
        &self,
        viewer: &Viewer,
        page: Vec<Shown>,
        sights: Vec<Option<Seen>>,
    ) -> Result<Vec<Shown>> {
        let mut seen = Vec::with_capacity(page.len());
        for (mut shown, sight) in page.into_iter().zip(sights) {
            let Some(sight) = sight else { continue };
            shown.membership = Some(sight.membership);
            shown.shows_state = sight.shows_state;
            seen.push(shown);
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
}
