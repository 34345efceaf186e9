//! Finds the state of a room that a client wants and does not have.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use colonnade_model::nid::{EventNid, StateKeyNid, StateNid, UserNid};
use colonnade_rooms::{Result, RoomEvent};
use colonnade_rules::trie::Delta;
use colonnade_storage::rooms::state::Part;

use super::required_state::RequiredState;
use crate::{
    sync::service::{Sync, SyncContext},
    timeline::Shown,
};

/// What of a room's state changed.
#[derive(Default)]
pub(super) struct StateChange {
    /// State that is another now, and is wanted.
    pub(super) events: Vec<EventNid>,
    /// Type and state key of what is wanted and not there any more.
    pub(super) gone: Vec<(String, String)>,
    /// The types of all that changed but members.
    pub(super) types: BTreeSet<String>,
    /// Who came, went, or has another name.
    pub(super) members: Vec<String>,
}

impl Sync {
    /// Returns what of a state is wanted.
    pub(super) async fn required(
        &self,
        state: StateNid,
        required: &RequiredState,
    ) -> Result<Vec<Arc<RoomEvent>>> {
        let (states, interned) = (self.from.rooms.states(), &self.context.interned);
        let mut nids: BTreeSet<EventNid> = BTreeSet::new();
        let mut places = Vec::new();
        for (event_type, state_key) in required.named() {
            if let Some(key) = interned.find_state_key_nid(event_type, state_key).await? {
                places.push((state, Part::of(event_type), key));
            }
        }
        nids.extend(states.lookup_each(&places).await?.into_iter().flatten());
        let wildcards = required.has_wildcard();
        for (part, is_wanted) in [(Part::Core, wildcards.others), (Part::Member, wildcards.members)]
        {
            if is_wanted {
                nids.extend(states.list(state, part).await?.iter().map(|entry| entry.event));
            }
        }
        let nids: Vec<EventNid> = nids.into_iter().collect();
        let mut events = self.from.rooms.events(&nids).await?;
        events.retain(|event| {
            let state_key = event.event.state_key().unwrap_or_default();
            required.wants(&event.event.event_type().to_string(), state_key)
        });
        Ok(events)
    }

    /// Returns what changed between two states. With `all_members` whatever member events did is wanted.
    pub(super) async fn state_change(
        &self,
        (before, after): (Option<StateNid>, Option<StateNid>),
        required: &RequiredState,
        all_members: bool,
    ) -> Result<StateChange> {
        let mut change = StateChange::default();
        let (Some(before), Some(after)) = (before, after) else { return Ok(change) };
        if before == after {
            return Ok(change);
        }
        let states = self.from.rooms.states();
        let core = states.diff(before, after, Part::Core).await?;
        let members = states.diff(before, after, Part::Member).await?;
        let core_count = core.len();
        let deltas: Vec<Delta> = core.into_iter().chain(members).collect();
        let keys: Vec<StateKeyNid> = deltas.iter().map(|delta| delta.state_key_nid).collect();
        let keys = self.context.interned.state_keys(&keys).await?;
        for (at, (delta, key)) in deltas.iter().zip(keys).enumerate() {
            let is_member = at >= core_count;
            match is_member {
                true => change.members.push(key.state_key.to_string()),
                false => drop(change.types.insert(key.event_type.to_string())),
            }
            let is_wanted = required.wants(&key.event_type, &key.state_key);
            match delta.after {
                Some(event) if is_wanted || is_member && all_members => change.events.push(event),
                None if is_wanted => {
                    change.gone.push((key.event_type.to_string(), key.state_key.to_string()));
                }
                _ => {}
            }
        }
        Ok(change)
    }

    /// Returns the member events of those who speak in some events, or whom these are about, as far as the client
    /// does not have them, and whose they are.
    pub(super) async fn members_of(
        &self,
        state: StateNid,
        said: &[Shown],
        known: &HashSet<UserNid>,
    ) -> Result<(Vec<EventNid>, Vec<UserNid>)> {
        let interned = &self.context.interned;
        let mut users: BTreeSet<UserNid> = said.iter().map(|shown| shown.row.sender).collect();
        for shown in said {
            let event = &shown.row.event;
            let target = event.membership().and(event.state_key());
            if let Some(target) =
                target.and_then(|id| <&colonnade_model::ruma::UserId>::try_from(id).ok())
            {
                users.extend(interned.find_user(target).await?);
            }
        }
        users.retain(|user| !known.contains(user));
        let users: Vec<UserNid> = users.into_iter().collect();
        let mut places = Vec::with_capacity(users.len());
        for user_id in interned.user_ids(&users).await? {
            let key = interned.find_state_key_nid("m.room.member", user_id.as_str()).await?;
            places.extend(key.map(|key| (state, Part::Member, key)));
        }
        let found = self.from.rooms.states().lookup_each(&places).await?;
        Ok((found.into_iter().flatten().collect(), users))
    }

    /// Returns the content of a state event of a room, if there is one.
    pub(super) async fn content_at(
        &self,
        state: Option<StateNid>,
        event_type: &str,
    ) -> Result<Option<serde_json::Value>> {
        let Some(state) = state else { return Ok(None) };
        let event = self.from.rooms.state_event_at(state, event_type, "").await?;
        Ok(event.and_then(|event| event.event.content_as().ok()))
    }

    /// Renders state as a client wants it.
    pub(super) async fn rendered_required(
        &self,
        context: &SyncContext,
        room: &colonnade_rooms::Room,
        nids: Vec<EventNid>,
    ) -> Result<Vec<Box<serde_json::value::RawValue>>> {
        let mut seen = HashSet::new();
        let nids: Vec<EventNid> = nids.into_iter().filter(|nid| seen.insert(*nid)).collect();
        let events = self.from.rooms.events(&nids).await?;
        self.rendered_state(context, room, events.into_iter().map(Shown::from).collect()).await
    }
}
