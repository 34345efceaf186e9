//! Our resolution of trimmed states against ruma's of whole ones, in random rooms.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use colonnade_model::ruma::{
    OwnedEventId, RoomVersionId,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Chains, ForkEntries, Resolution, ResolveError, Resolver, Step};
use crate::{
    auth::{StateKey, check_by_state},
    sample::{Room, StateIds, key, user},
};

mod v1;

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// One thing somebody does in one of the forks.
#[derive(Clone, Debug)]
struct Act {
    fork: prop::sample::Index,
    who: usize,
    what: usize,
    whom: usize,
    ts: u32,
    level: i64,
    /// Take the auth events from another fork: what odd servers send.
    odd: Option<prop::sample::Index>,
    /// Take over what another fork has under the key instead.
    merge: Option<prop::sample::Index>,
}

fn any_act() -> impl Strategy<Value = Act> {
    let odd = || prop::option::weighted(0.12, any::<prop::sample::Index>());
    (
        any::<prop::sample::Index>(),
        0..4usize,
        0..7usize,
        0..4usize,
        5..60u32,
        0..110i64,
        odd(),
        odd(),
    )
        .prop_map(|(fork, who, what, whom, ts, level, odd, merge)| Act {
            fork,
            who,
            what,
            whom,
            ts,
            level,
            odd,
            merge,
        })
}

fn content(act: &Act, v12: bool) -> (&'static str, String, Value) {
    let whom = user(NAMES[act.whom]).to_string();
    let member =
        |membership: &str| ("m.room.member", whom.clone(), json!({ "membership": membership }));
    match act.what {
        0 => {
            let mut users = json!({ "@bob:one.example": 50 });
            if !v12 {
                users["@alice:one.example"] = json!(100);
            }
            if !(v12 && act.whom == 0) {
                users[whom] = json!(act.level);
            }
            ("m.room.power_levels", String::new(), json!({ "users": users }))
        }
        1 => {
            let rule = if act.level < 50 { "public" } else { "invite" };
            ("m.room.join_rules", String::new(), json!({ "join_rule": rule }))
        }
        2 => ("m.room.topic", String::new(), json!({ "topic": act.level.to_string() })),
        3 => member("ban"),
        4 => member("leave"),
        5 => member("invite"),
        _ => ("m.room.member", user(NAMES[act.who]).to_string(), json!({ "membership": "join" })),
    }
}

/// Plays the acts in forks of a room where everybody is.
fn play(version: RoomVersionId, forks: usize, acts: &[Act]) -> (Room, Vec<StateIds>) {
    let v12 = version == RoomVersionId::V12;
    let (mut room, mut base) = Room::new(version);
    for (name, ts) in NAMES[1..].iter().zip(5..) {
        room.join(&mut base, ts, name);
    }
    let mut states = vec![base; forks];
    for act in acts {
        let fork = act.fork.index(forks);
        let (kind, state_key, content) = content(act, v12);
        if let Some(other) = &act.merge {
            let key = key(kind, &state_key);
            match states[other.index(forks)].get(&key).cloned() {
                Some(event) => states[fork].insert(key, event),
                None => states[fork].remove(&key),
            };
            continue;
        }
        let by = act.odd.map_or(fork, |odd| odd.index(forks));
        let allowing = states[by].clone();
        let event = room.make(&allowing, act.ts, NAMES[act.who], kind, Some(&state_key), content);
        // Mostly what a server would accept; odd ones get in anyway.
        let rules = &room.rules.authorization;
        let accepted =
            check_by_state(&event, rules, |kind, key| room.find(&allowing, kind, key)).is_ok();
        if accepted || act.odd.is_some() {
            states[fork].insert(key(kind, &state_key), event.event_id().to_owned());
        }
    }
    (room, states)
}

fn conflicts(states: &[StateIds]) -> Vec<ForkEntries> {
    let keys: BTreeSet<&StateKey> = states.iter().flat_map(|state| state.keys()).collect();
    let differs =
        |key: &&StateKey| states.iter().any(|state| state.get(*key) != states[0].get(*key));
    let keys: Vec<&StateKey> = keys.into_iter().filter(differs).collect();
    let entries = |state: &StateIds| {
        keys.iter().filter_map(|key| Some(((*key).clone(), state.get(*key)?.clone()))).collect()
    };
    states.iter().map(entries).collect()
}

/// Plays the caller: a database that answers exactly what is asked.
fn ours(room: &Room, states: &[StateIds], chains: Chains) -> Result<Resolution, ResolveError> {
    let forks = conflicts(states);
    let conflicted: HashSet<StateKey> = forks.iter().flat_map(|f| f.keys().cloned()).collect();
    // Depth orders the events of these rooms as nids would.
    let age = |id: &OwnedEventId| room.events[id].depth();
    let mut resolver = Resolver::new(forks, &room.rules, chains);
    let mut asked = HashSet::new();
    loop {
        match resolver.step()? {
            Step::Events(ids) => {
                assert!(!ids.is_empty());
                for id in &ids {
                    assert!(asked.insert(id.clone()), "{id} was asked for twice");
                }
                resolver.add_events(ids.iter().filter_map(|id| room.events.get(id).cloned()));
            }
            Step::Newer(candidates) => {
                let oldest = candidates.iter().map(age).min().unwrap();
                let newer = states[0]
                    .iter()
                    .filter(|(key, id)| !conflicted.contains(*key) && age(id) >= oldest);
                resolver.add_newer(newer.map(|(_, id)| id.clone()));
            }
            Step::Keys(keys) => {
                assert!(keys.iter().all(|key| !conflicted.contains(key)));
                let found = |key: StateKey| Some((key.clone(), states[0].get(&key)?.clone()));
                resolver.add_keys(keys.into_iter().filter_map(found));
            }
            Step::Done(resolution) => return Ok(resolution),
        }
    }
}

/// The whole thing by brute force.
fn oracle(room: &Room, states: &[StateIds], chains: Chains) -> Result<StateIds, String> {
    let chain_of = |start: Vec<OwnedEventId>| -> HashSet<OwnedEventId> {
        let mut chain = HashSet::new();
        let mut open = start;
        while let Some(id) = open.pop() {
            if chain.insert(id.clone()) {
                open.extend(room.events[&id].auth_events().iter().cloned());
            }
        }
        chain
    };
    let auth = |id: &OwnedEventId| room.events[id].auth_events().to_vec();
    let full = |state: &StateIds| -> EventIdSet<OwnedEventId> {
        let start = match chains {
            Chains::WithState => state.values().cloned().collect(),
            Chains::WithoutState => state.values().flat_map(auth).collect(),
        };
        chain_of(start).into_iter().collect()
    };
    let subgraph = |conflicted: &HashMap<StateKey, Vec<OwnedEventId>>| {
        let conflicted: HashSet<_> = conflicted.values().flatten().cloned().collect();
        let below = chain_of(conflicted.iter().cloned().collect());
        let reaches =
            |id: &OwnedEventId| chain_of(vec![id.clone()]).iter().any(|id| conflicted.contains(id));
        Some(below.into_iter().filter(reaches).collect())
    };
    state_res::resolve(
        &room.rules.authorization,
        room.rules.state_res.v2_rules().unwrap(),
        states,
        states.iter().map(full).collect(),
        |id| room.events.get(id).cloned(),
        subgraph,
    )
    .map_err(|error| error.to_string())
}

fn apply(state: &StateIds, resolution: &Resolution) -> BTreeMap<StateKey, OwnedEventId> {
    let mut state: BTreeMap<_, _> = state.clone().into_iter().collect();
    for (key, event) in &resolution.keys {
        match event {
            Some(event) => state.insert(key.clone(), event.clone()),
            None => state.remove(key),
        };
    }
    state
}

proptest! {
    // Each case signs dozens of events.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn equals_ruma_on_whole_states(
        new_room in any::<bool>(),
        forks in 2..4usize,
        acts in prop::collection::vec(any_act(), 1..40),
    ) {
        let version = if new_room { RoomVersionId::V12 } else { RoomVersionId::V10 };
        let (room, states) = play(version, forks, &acts);
        for chains in [Chains::WithState, Chains::WithoutState] {
            let expected = oracle(&room, &states, chains).unwrap();
            let resolution = ours(&room, &states, chains).unwrap();
            let expected: BTreeMap<_, _> = expected.into_iter().collect();
            for state in &states {
                prop_assert_eq!(&apply(state, &resolution), &expected);
            }
            let reversed: Vec<StateIds> = states.iter().rev().cloned().collect();
            prop_assert_eq!(ours(&room, &reversed, chains).unwrap(), resolution);
        }
    }
}

#[test]
fn a_ban_beats_what_the_banned_did_meanwhile() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let (mut room, mut base) = Room::new(version);
        room.join(&mut base, 5, "bob");
        let mut banned = base.clone();
        let ban = json!({ "membership": "ban" });
        let bob = "@bob:one.example";
        room.add(&mut banned, 10, "alice", "m.room.member", Some(bob), ban);
        let mut renamed = base.clone();
        let name = json!({ "topic": "mine" });
        room.add(&mut renamed, 20, "bob", "m.room.topic", Some(""), name);
        let states = [banned.clone(), renamed];
        let resolution = ours(&room, &states, Chains::default()).unwrap();
        assert_eq!(resolution.keys[&key("m.room.topic", "")], None);
        let member = key("m.room.member", bob);
        assert_eq!(resolution.keys[&member].as_ref(), banned.get(&member));
        assert_eq!(resolution.keys.len(), 2);
    }
}

#[test]
fn events_that_cannot_be_found_are_not_waited_for() {
    let (mut room, base) = Room::new(RoomVersionId::V10);
    let mut topics = [base.clone(), base.clone()];
    let [one, two] = &mut topics;
    room.add(one, 10, "alice", "m.room.topic", Some(""), json!({ "topic": "1" }));
    let gone = room.add(two, 20, "alice", "m.room.topic", Some(""), json!({ "topic": "2" }));
    room.events.remove(gone.event_id());
    let resolution = ours(&room, &topics, Chains::default()).unwrap();
    let topic = key("m.room.topic", "");
    assert_eq!(resolution.keys[&topic].as_ref(), topics[0].get(&topic));
}
