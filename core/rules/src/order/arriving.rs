//! Events that arrive one by one in any order, as an answer of thousands of them is read: each is given out once
//! all those that allow it were. What is held is what waits; nothing is held twice.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use colonnade_model::ruma::{EventId, OwnedEventId, events::TimelineEventType};

use crate::event::Event;

/// Events on their way into the order of their auth events.
#[derive(Debug, Default)]
pub struct Arriving {
    /// What came before the create event, on which everything rests: from room version 12 on nobody names it.
    /// `None` once that is there.
    early: Option<Vec<Event>>,
    /// Given out, or known from elsewhere.
    known: HashSet<OwnedEventId>,
    ready: Vec<Event>,
    /// Events that wait, and for how many others.
    waiting: HashMap<OwnedEventId, (Event, usize)>,
    /// Who waits for an event.
    lacked: HashMap<OwnedEventId, Vec<OwnedEventId>>,
}

impl Arriving {
    /// Begins a room of which nothing is known: its create event comes first.
    pub fn from_nothing() -> Self {
        Self { early: Some(Vec::new()), ..Self::default() }
    }

    /// Begins in a room whose create event is known.
    pub fn in_room() -> Self {
        Self::default()
    }

    /// Takes an event. One that came before is dropped.
    pub fn add(&mut self, event: Event) {
        if let Some(early) = &mut self.early {
            if !event.is_state(&TimelineEventType::RoomCreate, "") {
                early.push(event);
                return;
            }
            let early = self.early.take().unwrap_or_default();
            self.place(event);
            early.into_iter().for_each(|event| self.place(event));
            return;
        }
        self.place(event);
    }

    /// Notes events that are known from elsewhere: nobody waits for them any more.
    pub fn note_known(&mut self, ids: impl IntoIterator<Item = OwnedEventId>) {
        for id in ids {
            let free = self.release(&id);
            self.known.insert(id);
            free.into_iter().for_each(|event| self.give(event));
        }
    }

    /// Returns the events others wait for that did not arrive.
    pub fn lacking(&self) -> Vec<OwnedEventId> {
        self.lacked.keys().filter(|id| !self.waiting.contains_key(*id)).cloned().collect()
    }

    /// Takes the events all of whose auth events are known or stand before them.
    pub fn take_ready(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.ready)
    }

    /// Returns how many events can be taken.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Returns how many events wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.early.as_ref().map_or(0, Vec::len)
    }

    fn place(&mut self, event: Event) {
        let id = event.event_id().to_owned();
        if self.known.contains(&id) || self.waiting.contains_key(&id) {
            return;
        }
        let named = event.auth_events().iter().filter(|id| !self.known.contains(*id));
        let lacks: BTreeSet<OwnedEventId> = named.cloned().collect();
        if lacks.is_empty() {
            self.give(event);
            return;
        }
        self.waiting.insert(id.clone(), (event, lacks.len()));
        for lacked in lacks {
            self.lacked.entry(lacked).or_default().push(id.clone());
        }
    }

    fn give(&mut self, event: Event) {
        let mut open = vec![event];
        while let Some(event) = open.pop() {
            let id = event.event_id().to_owned();
            self.ready.push(event);
            open.extend(self.release(&id));
            self.known.insert(id);
        }
    }

    /// Returns the events that waited for this one only.
    fn release(&mut self, id: &EventId) -> Vec<Event> {
        let mut free = Vec::new();
        for waiter in self.lacked.remove(id).unwrap_or_default() {
            let Entry::Occupied(mut entry) = self.waiting.entry(waiter) else { continue };
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                free.push(entry.remove().0);
            }
        }
        free
    }
}
