//! Any forks of a room, with any auth events: they resolve to one state, whatever their order, by each of the
//! algorithms; and for room versions 2 and later to the state that ruma makes of them whole.

#![no_main]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::ruma::{
    EventId, OwnedEventId, RoomVersionId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use colonnade_rules::{
    auth::StateKey,
    event::Event,
    resolve::{Chains, ForkEntries, Resolution, Resolver, Step},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const USERS: [&str; 3] = ["@a:x", "@b:x", "@c:x"];
/// Events of one input at most, and forks.
const EVENTS_MAX: usize = 40;
const FORKS: usize = 3;

type State = HashMap<StateKey, OwnedEventId>;

struct Room {
    rules: RoomVersionRules,
    events: Vec<Arc<Event>>,
}

impl Room {
    fn add(&mut self, kind: &str, key: &str, by: &str, content: Value, auth: &[usize]) -> usize {
        let has_pairs = self.rules.signatures.check_event_id_server;
        let mut auth: Vec<usize> = auth.iter().map(|n| n % self.events.len().max(1)).collect();
        auth.retain(|n| *n < self.events.len());
        let named = auth.iter().map(|n| {
            let id = self.events[*n].event_id();
            if has_pairs { json!([id, {}]) } else { json!(id) }
        });
        let depth = auth.iter().map(|n| self.events[*n].depth() + 1).max().unwrap_or(1);
        let event = json!({
            "auth_events": named.collect::<Vec<_>>(), "content": content, "depth": depth,
            "origin_server_ts": self.events.len(), "prev_events": [], "room_id": "!r:x",
            "sender": by, "state_key": key, "type": kind,
        });
        let id = EventId::parse(format!("${}:x", self.events.len())).expect("an id");
        let bytes = event.to_string().into_bytes();
        let event = Event::from_stored(bytes, id, &self.rules, false).expect("an event");
        self.events.push(Arc::new(event));
        self.events.len() - 1
    }

    fn find(&self, id: &EventId) -> Option<Arc<Event>> {
        self.events.iter().find(|event| event.event_id() == id).cloned()
    }

    fn key(&self, n: usize) -> (StateKey, OwnedEventId) {
        let event = &self.events[n];
        let kind = StateEventType::from(event.event_type().to_string());
        let state_key = event.state_key().unwrap_or_default().to_owned();
        ((kind, state_key), event.event_id().to_owned())
    }
}

/// Plays a program of bytes: each five are an event and the fork it goes into.
fn play(version: RoomVersionId, program: &[u8]) -> (Room, Vec<State>) {
    let rules = version.rules().expect("a known version");
    let mut room = Room { rules, events: Vec::new() };
    let create = json!({ "creator": USERS[0], "room_version": version });
    let mut base = vec![room.add("m.room.create", "", USERS[0], create, &[])];
    let join = json!({ "membership": "join" });
    base.push(room.add("m.room.member", USERS[0], USERS[0], join.clone(), &[0]));
    let levels = json!({ "users": { USERS[0]: 100, USERS[1]: 50 } });
    base.push(room.add("m.room.power_levels", "", USERS[0], levels, &[0, 1]));
    let public = json!({ "join_rule": "public" });
    base.push(room.add("m.room.join_rules", "", USERS[0], public, &[0, 1, 2]));
    let base: State = base.into_iter().map(|n| room.key(n)).collect();
    let mut states = vec![base; FORKS];
    for act in program.chunks_exact(5).take(EVENTS_MAX) {
        let by = USERS[usize::from(act[1]) % USERS.len()];
        let whom = USERS[usize::from(act[1] / 8) % USERS.len()];
        let level = i64::from(act[2]);
        let (kind, key, content) = match act[0] % 7 {
            0 => {
                let users = json!({ USERS[0]: 100, USERS[1]: 50, whom: level });
                ("m.room.power_levels", "", json!({ "users": users }))
            }
            1 => {
                let rule = if level % 2 == 0 { "public" } else { "invite" };
                ("m.room.join_rules", "", json!({ "join_rule": rule }))
            }
            2 => ("m.room.topic", "", json!({ "topic": level })),
            3 => ("m.room.member", whom, json!({ "membership": "ban" })),
            4 => ("m.room.member", whom, json!({ "membership": "leave" })),
            5 => ("m.room.member", whom, json!({ "membership": "invite" })),
            _ => ("m.room.member", by, join.clone()),
        };
        let auth = [0, 1, usize::from(act[3]), usize::from(act[4])];
        let n = room.add(kind, key, by, content, &auth);
        let (key, id) = room.key(n);
        states[usize::from(act[0] / 7) % FORKS].insert(key, id);
    }
    (room, states)
}

fn ours(room: &Room, states: &[State]) -> Option<Resolution> {
    let keys: BTreeSet<&StateKey> = states.iter().flat_map(State::keys).collect();
    let differs =
        |key: &&StateKey| states.iter().any(|state| state.get(*key) != states[0].get(*key));
    let keys: Vec<&StateKey> = keys.into_iter().filter(differs).collect();
    let entries = |state: &State| -> ForkEntries {
        keys.iter().filter_map(|key| Some(((*key).clone(), state.get(*key)?.clone()))).collect()
    };
    let forks = states.iter().map(entries).collect();
    let mut resolver = Resolver::new(forks, &room.rules, Chains::WithState);
    loop {
        match resolver.step().ok()? {
            Step::Events(ids) => resolver.add_events(ids.iter().filter_map(|id| room.find(id))),
            Step::Newer(_) => {
                let unconflicted = states[0].iter().filter(|(key, _)| !keys.contains(key));
                resolver.add_newer(unconflicted.map(|(_, id)| id.clone()));
            }
            Step::Keys(keys) => {
                let held = |key: StateKey| Some((key.clone(), states[0].get(&key)?.clone()));
                resolver.add_keys(keys.into_iter().filter_map(held));
            }
            Step::Done(resolution) => return Some(resolution),
        }
    }
}

fn rumas(room: &Room, states: &[State]) -> Option<BTreeMap<StateKey, OwnedEventId>> {
    let chain = |start: Vec<OwnedEventId>| -> HashSet<OwnedEventId> {
        let (mut chain, mut open) = (HashSet::new(), start);
        while let Some(id) = open.pop() {
            let event = room.find(&id).expect("every event names events of the room");
            if chain.insert(id) {
                open.extend(event.auth_events().iter().cloned());
            }
        }
        chain
    };
    let chains: Vec<EventIdSet<OwnedEventId>> = states
        .iter()
        .map(|state| chain(state.values().cloned().collect()).into_iter().collect())
        .collect();
    let resolved = state_res::resolve(
        &room.rules.authorization,
        room.rules.state_res.v2_rules()?,
        states,
        chains,
        |id| room.find(id),
        |_| None,
    );
    Some(resolved.ok()?.into_iter().collect())
}

fuzz_target!(|program: &[u8]| {
    for version in [RoomVersionId::V1, RoomVersionId::V2, RoomVersionId::V10] {
        let (room, states) = play(version, program);
        if states.iter().all(|state| *state == states[0]) {
            continue;
        }
        let Some(resolution) = ours(&room, &states) else { continue };
        for turn in 0..FORKS {
            let mut turned = states.clone();
            turned.rotate_left(turn);
            assert_eq!(ours(&room, &turned).as_ref(), Some(&resolution));
            turned.reverse();
            assert_eq!(ours(&room, &turned).as_ref(), Some(&resolution));
        }
        let Some(expected) = rumas(&room, &states) else { continue };
        let mut state: BTreeMap<_, _> = states[0].clone().into_iter().collect();
        for (key, id) in &resolution.keys {
            match id {
                Some(id) => state.insert(key.clone(), id.clone()),
                None => state.remove(key),
            };
        }
        assert_eq!(state, expected);
    }
});
