//! Room version 1 against its text, word for word and with whole states.

use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use super::*;
use crate::event::Event;

/// The algorithm as the specification writes it down (Matrix v1.19, rooms, v1, §State resolution), where it leaves
/// a choice as Synapse does.
fn by_the_text(room: &Room, states: &[StateIds]) -> StateIds {
    // "Start by setting R to the union of the states to be resolved, excluding any conflicting events."
    let mut all: BTreeMap<StateKey, HashSet<OwnedEventId>> = BTreeMap::new();
    for (key, id) in states.iter().flatten() {
        all.entry(key.clone()).or_default().insert(id.clone());
    }
    let mut r = StateIds::new();
    for (key, ids) in &all {
        if let [id] = &ids.iter().collect::<Vec<_>>()[..] {
            r.insert(key.clone(), (*id).clone());
        }
    }
    let allowed = |event: &Event, r: &StateIds| {
        let rules = &room.rules.authorization;
        check_by_state(event, rules, |kind, key| room.find(r, kind, key)).is_ok()
    };
    // "Sort the list by ascending depth then descending sha1(event_id)."
    let sorted = |key: &StateKey| -> Vec<Arc<Event>> {
        let mut list: Vec<_> = all[key].iter().map(|id| room.events[id].clone()).collect();
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let sha1 = |event: &Event| hex(&Sha1::digest(event.event_id().as_bytes()));
        list.sort_by(|a, b| a.depth().cmp(&b.depth()).then(sha1(b).cmp(&sha1(a))));
        list
    };
    let conflicted: Vec<&StateKey> = all.keys().filter(|key| all[*key].len() > 1).collect();
    for pass in ["m.room.power_levels", "m.room.join_rules", "m.room.member"] {
        let mut settled = Vec::new();
        for key in conflicted.iter().filter(|key| key.0.to_string() == pass) {
            let list = sorted(key);
            // "Add the first event in the list to R. For each subsequent event in the list, check that the
            // event would be allowed by the authorisation rules for a room in state R."
            let mut with = r.clone();
            with.insert((*key).clone(), list[0].event_id().to_owned());
            for event in &list[1..] {
                if !allowed(event, &with) {
                    break;
                }
                with.insert((*key).clone(), event.event_id().to_owned());
            }
            settled.push(((*key).clone(), with[*key].clone()));
        }
        r.extend(settled);
    }
    // "for all other conflicts, just pick the event with the highest depth and lowest sha1(event_id) that
    // passes authentication in R and add it to R."
    let before = r.clone();
    for key in conflicted {
        if !before.contains_key(key) {
            let list = sorted(key);
            let passing = list.iter().rev().find(|event| allowed(event, &before));
            r.insert(key.clone(), passing.unwrap_or(&list[0]).event_id().to_owned());
        }
    }
    r
}

fn resolved(room: &Room, states: &[StateIds]) -> Resolution {
    ours(room, states, Chains::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn equals_the_text_in_any_order(
        forks in 2..5usize,
        acts in prop::collection::vec(any_act(), 1..40),
        turn in 0..5usize,
    ) {
        let (room, states) = play(RoomVersionId::V1, forks, &acts);
        let expected: BTreeMap<_, _> = by_the_text(&room, &states).into_iter().collect();
        let resolution = resolved(&room, &states);
        for state in &states {
            prop_assert_eq!(&apply(state, &resolution), &expected);
        }
        let mut turned = states.clone();
        turned.rotate_left(turn % forks);
        prop_assert_eq!(&resolved(&room, &turned), &resolution);
        turned.reverse();
        prop_assert_eq!(&resolved(&room, &turned), &resolution);
        // The same fork twice says nothing new.
        turned.push(states[0].clone());
        prop_assert_eq!(&resolved(&room, &turned), &resolution);
    }
}

#[test]
fn what_only_one_fork_has_stays() {
    let (mut room, base) = Room::new(RoomVersionId::V1);
    let mut states = [base.clone(), base];
    room.add(&mut states[0], 10, "alice", "m.room.topic", Some(""), json!({ "topic": "1" }));
    room.join(&mut states[1], 20, "carol");
    let resolution = resolved(&room, &states);
    let topic = key("m.room.topic", "");
    let carol = key("m.room.member", "@carol:one.example");
    assert_eq!(resolution.keys[&topic].as_ref(), states[0].get(&topic));
    assert_eq!(resolution.keys[&carol].as_ref(), states[1].get(&carol));
    assert_eq!(resolution.keys.len(), 2);
}

#[test]
fn the_deepest_topic_wins_among_those_allowed() {
    let (mut room, mut base) = Room::new(RoomVersionId::V1);
    room.join(&mut base, 5, "bob");
    let mut states = [base.clone(), base.clone(), base];
    // Carol is not in the room, so what she says deepest of all is not allowed.
    let topic = |n: usize| json!({ "topic": n });
    room.add(&mut states[0], 10, "alice", "m.room.topic", Some(""), topic(0));
    room.add(&mut states[1], 10, "bob", "m.room.topic", Some(""), topic(1));
    let stranger = room.make(&states[2], 10, "carol", "m.room.topic", Some(""), topic(2));
    states[2].insert(key("m.room.topic", ""), stranger.event_id().to_owned());
    let topics: Vec<_> = states.iter().map(|state| &state[&key("m.room.topic", "")]).collect();
    let depths: Vec<_> = topics.iter().map(|id| room.events[*id].depth()).collect();
    assert!(depths[1] > depths[0], "bob's join lies between: {depths:?}");
    let resolution = resolved(&room, &states);
    assert_eq!(resolution.keys[&key("m.room.topic", "")].as_ref(), Some(topics[1]));
}

#[test]
fn events_of_room_version_1_that_cannot_be_found_are_not_waited_for() {
    let (mut room, base) = Room::new(RoomVersionId::V1);
    let mut topics = [base.clone(), base];
    let [one, two] = &mut topics;
    room.add(one, 10, "alice", "m.room.topic", Some(""), json!({ "topic": "1" }));
    let gone = room.add(two, 20, "alice", "m.room.topic", Some(""), json!({ "topic": "2" }));
    let topic = key("m.room.topic", "");
    room.events.remove(gone.event_id());
    let resolution = resolved(&room, &topics);
    assert_eq!(resolution.keys[&topic].as_ref(), topics[0].get(&topic));
    room.events.remove(&topics[0][&topic]);
    assert_eq!(resolved(&room, &topics).keys[&topic], None);
}
