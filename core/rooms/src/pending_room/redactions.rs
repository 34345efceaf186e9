//! Redactions: which take effect, on what is there already and on what comes later. From room version 3 on a
//! redaction is allowed by no more than its sender's membership, and counts only where what it redacts is known and
//! its sender may redact that (Matrix v1.19, rooms, v3, §Handling redactions). Until then it is shown to nobody.

use std::sync::Arc;

use colonnade_model::nid::StateNid;
use colonnade_rules::event::Event;
use colonnade_storage::rooms::{
    events::EventFlags,
    persist::{NewEvent, Redaction},
    relations,
};

use super::{PendingRoom, power_levels::levels};
use crate::{
    Error, Result,
    store::{RoomEvent, Store},
};

/// Tells whether an event is anything but a redaction that redacts nothing.
///
/// # Errors
/// When the database fails.
pub(super) async fn counts(
    pending: &mut PendingRoom,
    store: &Store,
    event: &Event,
    state_before: StateNid,
) -> Result<bool> {
    if pending.room.rules.authorization.special_case_room_redaction {
        return Ok(true);
    }
    let Some(target) = event.redacts() else { return Ok(true) };
    match pending.find(store, target).await? {
        Some(target) => applies(pending, store, event, Some(state_before), &target).await,
        None => Ok(false),
    }
}

/// Tells whether a redaction takes effect on an event.
async fn applies(
    pending: &mut PendingRoom,
    store: &Store,
    redaction: &Event,
    state_before: Option<StateNid>,
    target: &RoomEvent,
) -> Result<bool> {
    if target.room != pending.room.nid {
        return Ok(false);
    }
    let levels = levels(pending, store, state_before).await?;
    let rules = &pending.room.rules.authorization;
    Ok(levels.is_some_and(|levels| levels.redaction_applies(redaction, &target.event, rules)))
}

impl PendingRoom {
    /// Returns what is left of the event that this one redacts, if it may.
    pub(super) async fn redacted(
        &mut self,
        store: &Store,
        event: &Event,
        state_before: Option<StateNid>,
    ) -> Result<Option<Arc<RoomEvent>>> {
        let Some(target) = event.redacts() else { return Ok(None) };
        let Some(target) = self.find(store, target).await? else { return Ok(None) };
        if target.flags.has(EventFlags::REDACTED)
            || !applies(self, store, event, state_before, &target).await?
        {
            return Ok(None);
        }
        self.rest_of(&target).map(Some)
    }

    /// Remembers an event with what is left of the one that it redacts; else, if a redaction came before it, with
    /// what that leaves of itself.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn remember_with(
        &mut self,
        store: &Store,
        event: RoomEvent,
        mut row: NewEvent,
        redacted: Option<Arc<RoomEvent>>,
    ) -> Result<()> {
        let redacted = match redacted {
            None => self.redacted_already(store, &event).await?,
            redacted => redacted,
        };
        row.redaction = redacted
            .as_ref()
            .map(|redacted| Redaction { target: redacted.nid, json: redacted.event.shared_json() });
        self.remember(event, row);
        if let Some(redacted) = redacted {
            if self.is_fresh(redacted.nid) {
                self.added.fresh.insert(redacted.nid, Arc::clone(&redacted));
            }
            self.added.redacted.push(redacted);
        }
        Ok(())
    }

    /// Returns what is left of an event of another server that a redaction came before.
    async fn redacted_already(
        &mut self,
        store: &Store,
        event: &RoomEvent,
    ) -> Result<Option<Arc<RoomEvent>>> {
        // Of an event of this server nobody can know before it is there.
        if event.event.sender().server_name() == store.context.server_name {
            return Ok(None);
        }
        let id = event.event.event_id();
        let stored = relations::redactions_of(&store.context.db, id.as_str()).await?;
        let mut redactions = store.events(&stored).await?;
        let fresh = self.fresh_events().filter(|fresh| fresh.event.redacts() == Some(id));
        redactions.extend(fresh.cloned());
        for redaction in redactions {
            if redaction.room == event.room
                && !redaction.flags.has(EventFlags::REJECTED)
                && applies(self, store, &redaction.event, redaction.state_before, event).await?
            {
                return self.rest_of(event).map(Some);
            }
        }
        Ok(None)
    }

    fn rest_of(&self, target: &RoomEvent) -> Result<Arc<RoomEvent>> {
        let left = target.event.redacted(&self.room.rules);
        let left = left.map_err(|error| Error::internal("redact an event", error))?;
        Ok(Arc::new(RoomEvent {
            event: Arc::new(left),
            flags: target.flags.with(EventFlags::REDACTED),
            ..target.clone()
        }))
    }
}
