//! What must hold: of each process while it runs and when it ends, and of everything in the end.

use std::collections::{BTreeMap, HashMap};

use colonnade_model::{
    ruma::OwnedEventId,
    stream::{Position, Stream},
};
use colonnade_replication::slots::Place as Owner;
use colonnade_storage::rooms::events::StoredEvent;

use crate::{
    clients::ClientRecord,
    history::History,
    observer::Observer,
    process::{Process, Stage},
    template::{Place, Template},
};

/// A consumer was told of every row once, in order, from where it began to where it came.
pub(crate) fn heard(process: &Process, observer: &Observer, history: &History) {
    let heard = process.heard.lock();
    let rows = observer.stream(heard.begun, heard.reached);
    if heard.rows != rows {
        let missed: Vec<_> = rows.iter().filter(|row| !heard.rows.contains(row)).collect();
        let (name, count) = (&process.name, heard.rows.len());
        history.violated(format_args!(
            "{name} heard of {count} of {} rows in {}..{}, or in another order; missed: {missed:?}",
            rows.len(),
            heard.begun,
            heard.reached
        ));
    }
}

/// By maps of the same epoch, no two processes own a slot.
pub(crate) fn one_owner(processes: &[Option<Process>], rooms: &[Place], history: &History) {
    let mut owners: HashMap<(i64, u16), &str> = HashMap::new();
    for process in processes.iter().flatten() {
        let Stage::Serves(services, _) = &*process.stage.lock() else { continue };
        let slots = &services.context.slots;
        let epoch = slots.map().epoch;
        for room in rooms.iter().filter(|room| matches!(slots.place(room.slot), Owner::Here { .. }))
        {
            if let Some(other) = owners.insert((epoch, room.slot), &process.name) {
                let (name, slot) = (&process.name, room.slot);
                if other != name {
                    history.violated(format_args!(
                        "{other} and {name} both own slot {slot} at epoch {epoch}"
                    ));
                }
            }
        }
    }
}

/// Everything acknowledged is there once, as it was acknowledged and in its sender's order; nothing
/// else is; positions are dense; readers saw all of it.
pub(crate) fn everything(
    template: &Template,
    record: &ClientRecord,
    observer: &Observer,
    history: &History,
    begun: Position,
) {
    let horizon = observer.horizons().get(Stream::Events);
    let stream = observer.stream(begun, horizon);
    let dense = stream.iter().map(|(position, _)| *position).eq(begun + 1..=horizon);
    if !dense {
        history.violated(format_args!("{} rows between {begun} and {horizon}", stream.len()));
    }
    for room in &template.rooms {
        let events = observer.events(room.nid);
        messages(room, &events, record, history, begun);
        let ids: Vec<OwnedEventId> = events.iter().map(|event| event.event_id.clone()).collect();
        let timeline = observer.timeline(room.nid);
        if timeline != ids {
            history.violated(format_args!("the timeline of {} is in another order", room.id));
        }
        for (reader, seen) in record.seen.iter().enumerate() {
            if seen.get(&room.id) != Some(&ids) {
                let seen = seen.get(&room.id).map_or(0, Vec::len);
                history.violated(format_args!(
                    "reader {reader} saw {seen} of {} events in {}, or in another order",
                    ids.len(),
                    room.id
                ));
            }
        }
    }
}

/// Tells whether all readers have seen as much as there is: every position is an event that all of
/// them may see.
pub(crate) fn all_seen(record: &ClientRecord, horizon: Position) -> bool {
    record.seen.iter().all(|seen| {
        let events: usize = seen.values().map(Vec::len).sum();
        Position::try_from(events).is_ok_and(|events| events >= horizon)
    })
}

fn messages(
    room: &Place,
    events: &[StoredEvent],
    record: &ClientRecord,
    history: &History,
    begun: Position,
) {
    let mut found: BTreeMap<String, Vec<(Position, &OwnedEventId)>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.pos.is_some_and(|pos| pos > begun)) {
        let json: serde_json::Value = serde_json::from_slice(&event.json).unwrap_or_default();
        let text = json["content"]["body"].as_str().unwrap_or_default().to_owned();
        if !record.proposed.contains(&text) {
            history.violated(format_args!("{} holds {json}, which nobody sent", room.id));
        }
        found.entry(text).or_default().push((event.pos.unwrap_or(0), &event.event_id));
    }
    for (text, events) in found.iter().filter(|(_, events)| events.len() > 1) {
        history.violated(format_args!("{text} is there {} times: {events:?}", events.len()));
    }
    let mut last: HashMap<usize, Position> = HashMap::new();
    for known in record.acknowledged.iter().filter(|known| known.room == room.nid) {
        let at = match found.get(&known.text).map(Vec::as_slice) {
            Some([(at, event_id), ..]) if **event_id == known.event_id => *at,
            other => {
                history
                    .violated(format_args!("{known:?} was acknowledged, and there is {other:?}"));
                continue;
            }
        };
        if last.insert(known.sender, at).is_some_and(|before| before > at) {
            history.violated(format_args!("{} comes before what was sent earlier", known.text));
        }
    }
}
