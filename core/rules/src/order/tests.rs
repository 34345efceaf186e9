//! Batches in any order, with gaps, and in circles.

use std::sync::Arc;

use colonnade_model::ruma::{OwnedEventId, RoomVersionId};
use proptest::prelude::*;
use serde_json::json;

use super::{Arriving, Order, by_auth_events};
use crate::{
    event::Event,
    sample::{Room, StateIds},
};

fn order(batch: &[Arc<Event>]) -> Order {
    by_auth_events(batch.iter().map(|event| &**event))
}

/// An event of room version 1 with an id and auth events of our choice.
fn named(id: &str, auth_events: &[&str]) -> Arc<Event> {
    let pairs: Vec<_> = auth_events.iter().map(|id| json!([format!("${id}:x"), {}])).collect();
    let json = json!({
        "auth_events": pairs, "content": {}, "depth": 1, "origin_server_ts": 1, "prev_events": [],
        "room_id": "!r:x", "sender": "@a:x", "type": "m.x",
    });
    let id = OwnedEventId::try_from(format!("${id}:x")).unwrap();
    let rules = RoomVersionId::V1.rules().unwrap();
    Arc::new(Event::from_stored(json.to_string().into_bytes(), id, &rules, false).unwrap())
}

fn room(version: RoomVersionId) -> (Vec<Arc<Event>>, StateIds) {
    let (mut room, mut state) = Room::new(version);
    for (name, ts) in ["bob", "carol", "dave"].into_iter().zip(5..) {
        room.join(&mut state, ts, name);
    }
    let mut events: Vec<_> = room.events.into_values().collect();
    events.sort_by_key(|event| event.depth());
    (events, state)
}

/// A room's events in any order, of a new or an old version.
fn shuffled(seed: &[prop::sample::Index], new: bool) -> Vec<Arc<Event>> {
    let version = if new { RoomVersionId::V12 } else { RoomVersionId::V4 };
    let (mut events, _) = room(version);
    for (place, index) in seed.iter().enumerate().take(events.len()) {
        let other = index.index(events.len());
        events.swap(place, other);
    }
    events
}

/// The places of events in what is given out while they arrive.
fn arrived(arriving: &mut Arriving, batch: &[Arc<Event>]) -> Vec<OwnedEventId> {
    let mut given = Vec::new();
    for event in batch {
        arriving.add((**event).clone());
        given.extend(arriving.take_ready().iter().map(|event| event.event_id().to_owned()));
    }
    given
}

proptest! {
    #[test]
    fn what_arrives_is_given_out_after_what_allows_it(
        seed in prop::collection::vec(any::<prop::sample::Index>(), 12),
        new in any::<bool>(),
    ) {
        let events = shuffled(&seed, new);
        // Twice, as lists of a state and of its auth chain overlap.
        let twice: Vec<_> = events.iter().chain(&events).cloned().collect();
        let mut arriving = Arriving::from_nothing();
        let given = arrived(&mut arriving, &twice);
        prop_assert_eq!(given.len(), events.len());
        prop_assert_eq!((arriving.waiting(), arriving.lacking().len()), (0, 0));
        for (place, id) in given.iter().enumerate() {
            let event = events.iter().find(|event| event.event_id() == id).unwrap();
            for allowing in event.auth_events() {
                prop_assert!(given[..place].contains(allowing));
            }
        }
        let first = events.iter().find(|event| event.event_id() == given[0]).unwrap();
        prop_assert!(first.is_state(&"m.room.create".into(), ""));
    }

    #[test]
    fn every_event_comes_after_those_that_allow_it(
        seed in prop::collection::vec(any::<prop::sample::Index>(), 12),
        new in any::<bool>(),
    ) {
        let events = shuffled(&seed, new);
        let Order { order, in_circles, missing } = order(&events);
        prop_assert!(in_circles.is_empty() && missing.is_empty());
        prop_assert_eq!(order.len(), events.len());
        let mut seen = Vec::new();
        for place in order {
            for id in events[place].auth_events() {
                prop_assert!(seen.contains(&&**id));
            }
            seen.push(events[place].event_id());
        }
    }
}

#[test]
fn what_is_in_order_stays_in_order() {
    let (events, _) = room(RoomVersionId::V10);
    assert_eq!(order(&events).order, (0..events.len()).collect::<Vec<_>>());
}

#[test]
fn circles_are_named_and_the_rest_goes_on() {
    let batch = [
        named("a", &[]),
        named("b", &["a", "d"]),
        named("c", &["b"]),
        named("d", &["c"]),
        named("e", &["d", "a"]),
        named("f", &["a"]),
        named("self", &["self"]),
    ];
    let Order { order, in_circles, missing } = order(&batch);
    assert_eq!(order, [0, 5]);
    assert_eq!(in_circles, [1, 2, 3, 4, 6]);
    assert!(missing.is_empty());
}

#[test]
fn missing_events_are_named_and_not_waited_for() {
    let batch = [named("b", &["gone", "a"]), named("a", &["gone", "gone"]), named("c", &["far"])];
    let Order { order, in_circles, missing } = order(&batch);
    assert_eq!(order, [1, 0, 2]);
    assert!(in_circles.is_empty());
    let missing: Vec<_> = missing.iter().map(|id| id.as_str()).collect();
    assert_eq!(missing, ["$far:x", "$gone:x"]);
}

#[test]
fn an_event_that_is_there_twice_is_named_once() {
    let batch = [named("a", &[]), named("a", &[]), named("b", &["a", "a"]), named("b", &["a"])];
    assert_eq!(order(&batch).order, [0, 2]);
    assert_eq!(order(&[]), Order::default());
}

#[test]
fn a_chain_of_thousands_needs_no_stack() {
    let ids: Vec<String> = (0..20_000).map(|n| format!("e{n}")).collect();
    let mut batch = vec![named(&ids[0], &[])];
    batch.extend(ids.windows(2).map(|pair| named(&pair[1], &[&pair[0]])));
    batch.reverse();
    let places = order(&batch).order;
    assert_eq!(places, (0..20_000).rev().collect::<Vec<_>>());
}

#[test]
fn what_waits_for_what_never_arrives_says_so() {
    let mut arriving = Arriving::in_room();
    let batch = [named("c", &["b"]), named("b", &["a"]), named("self", &["self"])];
    assert_eq!(arrived(&mut arriving, &batch), Vec::<OwnedEventId>::new());
    assert_eq!((arriving.waiting(), arriving.ready()), (3, 0));
    assert_eq!(arriving.lacking(), ["$a:x"]);
    arriving.note_known(arriving.lacking());
    let ids: Vec<_> =
        arriving.take_ready().iter().map(|event| event.event_id().to_string()).collect();
    assert_eq!(ids, ["$b:x", "$c:x"]);
    assert_eq!((arriving.waiting(), arriving.lacking().len()), (1, 0), "a circle");
}
