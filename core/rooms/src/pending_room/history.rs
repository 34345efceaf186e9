//! Adding history: events from before what is known of a room, which other servers had. Clients see them
//! further down in the timeline; nothing happens anew, and the room stands where it stood.

use colonnade_model::nid::EventNid;
use colonnade_rules::event::Event;
use colonnade_storage::rooms::{events::EventFlags, gaps};

use super::{
    PendingRoom,
    apply::{TIMELINE_KEY_STEP, row, sent},
    ingest::{self, Verdict},
};
use crate::{Result, incoming::StateBefore, proposal::Sent, store::Store};

impl PendingRoom {
    /// Adds events of the past, oldest first, below everything that is known; `state` is the state before
    /// the first of them. Those that are part of the room already stay as they are.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when an auth event is not known, or when the database fails.
    pub(crate) async fn add_history(
        &mut self,
        store: &Store,
        events: Vec<Event>,
        state: Vec<EventNid>,
    ) -> Result<Vec<Sent>> {
        let lowest = gaps::lowest_key(&store.context.db, self.room.nid).await?.unwrap_or(0);
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let mut key = lowest.saturating_sub(count.saturating_mul(TIMELINE_KEY_STEP));
        let (mut before, mut added) = (StateBefore::Given(state), Vec::new());
        for event in events {
            let known = self.find_own(store, event.event_id()).await?;
            if known.as_ref().is_some_and(|known| !known.waits_outside()) {
                continue;
            }
            let outlier = known.map(|known| known.nid);
            let admitted = ingest::of_history(
                self,
                store,
                event,
                std::mem::replace(&mut before, StateBefore::Followed),
                outlier,
            )
            .await?;
            let flags = match admitted.verdict {
                Verdict::Rejected => EventFlags::REJECTED,
                Verdict::Accepted | Verdict::SoftFailed => EventFlags::default(),
            };
            let is_shown = admitted.verdict != Verdict::Rejected;
            let mut room_event = self.hold(&admitted, flags);
            let mut stored = row(&admitted, flags, None);
            stored.history_key = is_shown.then_some(key);
            let relation = self.relation(store, &admitted.event).await?;
            room_event.thread = relation.as_ref().and_then(|(_, thread)| *thread);
            room_event.timeline_key = stored.history_key;
            stored.relation = relation.map(|(relation, _)| relation);
            stored.redacts = admitted.event.redacts().map(ToString::to_string);
            let redacted = self.redacted(store, &admitted.event, admitted.state_before).await?;
            self.remember_with(store, room_event, stored, redacted).await?;
            added.push(sent(&admitted));
            key += TIMELINE_KEY_STEP;
        }
        Ok(added)
    }
}
