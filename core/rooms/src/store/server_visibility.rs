//! What another server may see of a room's events. What it may not see it gets redacted: it still needs the
//! place of the event in the graph.
//!
//! Source: Matrix v1.19, client-server, "Room history visibility", applied to a server as to its users.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use colonnade_model::{
    nid::{StateNid, UserNid},
    ruma::{ServerName, events::room::member::MembershipState},
};
use colonnade_storage::{
    rooms::{members, state::Part},
    users::accounts,
};

use super::{Room, RoomEvent, Store};
use crate::{Error, Result};

/// Users of a server whose memberships are looked at: one that was there is enough.
const USERS_MAX: i64 = 200;

impl Store {
    /// Returns the events as another server may see them: whole, or redacted.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shown_to_server(
        &self,
        room: &Room,
        events: Vec<Arc<RoomEvent>>,
        server: &ServerName,
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let states: Vec<StateNid> = events.iter().filter_map(|event| event.state_before).collect();
        let visibility = self.state_events_across(&states, "m.room.history_visibility", "").await?;
        let is_restricted = |state: &StateNid| {
            let event = visibility.get(state);
            let content: serde_json::Value =
                event.and_then(|event| event.event.content_as().ok()).unwrap_or_default();
            matches!(content["history_visibility"].as_str(), Some("joined" | "invited"))
        };
        let restricted: Vec<StateNid> = states.iter().copied().filter(is_restricted).collect();
        let present = self.present_at(room, &restricted, server).await?;
        let said = events.iter().filter(|event| event.state_key_nid.is_none());
        let senders: BTreeSet<UserNid> = said.map(|event| event.sender).collect();
        let senders: Vec<UserNid> = senders.into_iter().collect();
        // Who erased his account has said nothing to those who ask for it now.
        let erased = accounts::erased_among(&self.context.db, &senders).await?;
        let mut shown = Vec::with_capacity(events.len());
        for event in events {
            let hidden = event.event.sender().server_name() != server
                && event.state_before.is_some_and(|state| present.get(&state) == Some(&false))
                || event.state_key_nid.is_none() && erased.contains(&event.sender);
            shown.push(match hidden {
                false => event,
                true => {
                    let left = event.event.redacted(&room.rules);
                    let left = left.map_err(|error| Error::internal("redact an event", error))?;
                    Arc::new(RoomEvent { event: Arc::new(left), ..(*event).clone() })
                }
            });
        }
        Ok(shown)
    }

    /// Tells of each state whether a user of a server is joined in it.
    async fn present_at(
        &self,
        room: &Room,
        states: &[StateNid],
        server: &ServerName,
    ) -> Result<HashMap<StateNid, bool>> {
        let mut present: HashMap<StateNid, bool> =
            states.iter().map(|state| (*state, false)).collect();
        if states.is_empty() {
            return Ok(present);
        }
        let ending = format!(":{server}");
        let users = members::named(&self.context.db, room.nid, &ending, USERS_MAX).await?;
        for (_, user_id) in users {
            let Some(key) =
                self.context.interned.find_state_key_nid("m.room.member", &user_id).await?
            else {
                continue;
            };
            let found = self.states().lookup_across(states, Part::Member, key).await?;
            for (state, nid) in found {
                let member = self.event(nid).await?;
                let joined = member.and_then(|member| member.event.membership());
                if joined == Some(MembershipState::Join) {
                    present.insert(state, true);
                }
            }
            if present.values().all(|present| *present) {
                break;
            }
        }
        Ok(present)
    }
}
