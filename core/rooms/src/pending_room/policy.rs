//! Whether a room wants its policy server's word for an event, and has it.

use std::sync::Arc;

use colonnade_model::ruma::events::{StateEventType, TimelineEventType};
use colonnade_rules::{
    auth::StateKey,
    event::Event,
    policy::{ROOM_POLICY, RoomPolicy, is_asked_about},
};

use super::PendingRoom;
use crate::{
    Result,
    incoming::PolicyCheck,
    remote::policy_servers::{in_use, wanted},
    store::Store,
};

impl PendingRoom {
    /// Tells whether the room's policy server is to be asked about an event.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn wants_policy(
        &mut self,
        store: &Store,
        event_type: &TimelineEventType,
        state_key: Option<&str>,
    ) -> Result<bool> {
        Ok(self.policy(store).await?.is_some() && is_asked_about(event_type, state_key))
    }

    /// Tells whether the room's policy server, if it has one, recommends an event.
    ///
    /// # Errors
    /// With [`POLICY_WANTED`](crate::remote::policy_servers::POLICY_WANTED) when it was not asked yet; when the database fails.
    pub(super) async fn recommends(
        &mut self,
        store: &Store,
        event: &Event,
        check: PolicyCheck,
    ) -> Result<bool> {
        if check == PolicyCheck::NotDue || !is_asked_about(event.event_type(), event.state_key()) {
            return Ok(true);
        }
        let Some(policy) = self.policy(store).await? else { return Ok(true) };
        match policy.has_signed(event, &self.room.rules).unwrap_or(false) {
            true => Ok(true),
            false if check == PolicyCheck::Due => Err(wanted().into()),
            false => Ok(false),
        }
    }

    /// Returns the room's policy server as the current state names it.
    async fn policy(&mut self, store: &Store) -> Result<Option<Arc<RoomPolicy>>> {
        if let Some(known) = &self.tip.policy {
            return Ok(known.clone());
        }
        // Known by name from now on, also where no room ever had one.
        store.context.interned.state_key_nid(ROOM_POLICY, "").await?;
        let key: StateKey = (StateEventType::from(ROOM_POLICY), String::new());
        let named = self.look_up(store, self.tip.state, std::slice::from_ref(&key)).await?;
        let named = named.into_values().next();
        let policy = in_use(&store.context, self.room.nid, named).await?.map(Arc::new);
        // Who is in the room is read as it is committed: what is pending may change that.
        if self.kept.events.is_empty() && self.added.events.is_empty() {
            self.tip.policy = Some(policy.clone());
        }
        Ok(policy)
    }
}
