//! Sample rooms for the tests of this crate: real events, signed, with real auth events.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId, UInt,
    UserId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
    server_name,
    signatures::Ed25519KeyPair,
};
use serde_json::{Value, json, value::to_raw_value};

use crate::{
    auth::{StateKey, state_keys_to_check},
    event::{Draft, Event, content_from_json, depth_after},
};

/// A state map by event id.
pub(crate) type StateIds = HashMap<StateKey, OwnedEventId>;

/// A room under construction: all its events and how to make more.
pub(crate) struct Room {
    pub(crate) rules: RoomVersionRules,
    pub(crate) room_id: Option<OwnedRoomId>,
    pub(crate) events: HashMap<OwnedEventId, Arc<Event>>,
    key: Ed25519KeyPair,
}

pub(crate) fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:one.example")).unwrap()
}

pub(crate) fn key(event_type: &str, state_key: &str) -> StateKey {
    (StateEventType::from(event_type), state_key.to_owned())
}

impl Room {
    /// Makes a room with its create event, alice joined in it, levels and join rules.
    pub(crate) fn new(version: RoomVersionId) -> (Self, StateIds) {
        let rules = version.rules().unwrap();
        let room_id = rules
            .event_format
            .require_room_create_room_id
            .then(|| "!sample:one.example".try_into().unwrap());
        let pair = Ed25519KeyPair::from_der(&Ed25519KeyPair::generate(), "1".to_owned()).unwrap();
        let mut room = Self { rules, room_id, events: HashMap::new(), key: pair };
        let mut state = StateIds::new();
        let mut create = json!({ "room_version": version });
        if !room.rules.authorization.use_room_create_sender {
            create["creator"] = json!("@alice:one.example");
        }
        let create = room.add(&mut state, 1, "alice", "m.room.create", Some(""), create);
        room.room_id = Some(create.room_id().to_owned());
        room.join(&mut state, 2, "alice");
        let levels = if room.rules.authorization.explicitly_privilege_room_creators {
            json!({ "users": { "@bob:one.example": 50 } })
        } else {
            json!({ "users": { "@alice:one.example": 100, "@bob:one.example": 50 } })
        };
        room.add(&mut state, 3, "alice", "m.room.power_levels", Some(""), levels);
        let rule = json!({ "join_rule": "public" });
        room.add(&mut state, 4, "alice", "m.room.join_rules", Some(""), rule);
        (room, state)
    }

    /// Makes an event after a state, allowed by it or not.
    pub(crate) fn make(
        &mut self,
        state: &StateIds,
        ts: u32,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Arc<Event> {
        let event_type = TimelineEventType::from(event_type);
        let sender = user(sender);
        let raw = to_raw_value(&content).unwrap();
        let rules = &self.rules.authorization;
        let keys = state_keys_to_check(&event_type, &sender, state_key, &raw, rules).unwrap();
        let auth_events: Vec<_> = keys.iter().filter_map(|key| state.get(key).cloned()).collect();
        let named = |id: &OwnedEventId| self.events[id].reference(&self.rules).unwrap();
        let auth_events: Vec<_> = auth_events.iter().map(named).collect();
        let creates_room = event_type == TimelineEventType::RoomCreate;
        let depths = auth_events.iter().map(|named| self.events[&named.event_id].depth());
        let draft = Draft {
            room_id: self.room_id.clone(),
            sender,
            event_type,
            state_key: state_key.map(str::to_owned),
            content: content_from_json(&raw).unwrap(),
            prev_events: if creates_room { vec![] } else { auth_events.clone() },
            depth: depth_after(depths),
            auth_events,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(ts)),
            redacts: None,
            opaque_id: Some(format!("event{}", self.events.len())),
        };
        let event = draft.sign(server_name!("one.example"), &self.key, &self.rules).unwrap();
        let event = Arc::new(event);
        self.events.insert(event.event_id().to_owned(), event.clone());
        event
    }

    /// Makes a state event and puts it into the state.
    pub(crate) fn add(
        &mut self,
        state: &mut StateIds,
        ts: u32,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Arc<Event> {
        let event = self.make(state, ts, sender, event_type, state_key, content);
        if let Some(state_key) = state_key {
            state.insert(key(event_type, state_key), event.event_id().to_owned());
        }
        event
    }

    pub(crate) fn join(&mut self, state: &mut StateIds, ts: u32, name: &str) -> Arc<Event> {
        let joined = json!({ "membership": "join" });
        self.add(state, ts, name, "m.room.member", Some(user(name).as_str()), joined)
    }

    /// The event of a state with a key.
    pub(crate) fn find(
        &self,
        state: &StateIds,
        event_type: &StateEventType,
        state_key: &str,
    ) -> Option<Arc<Event>> {
        let id = state.get(&(event_type.clone(), state_key.to_owned()))?;
        Some(self.events[id].clone())
    }
}
