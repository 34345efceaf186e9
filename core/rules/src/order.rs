//! The order in which a batch of events can be checked: none before those that allow it.
//!
//! For what another server answers to a join: thousands of events, in any order, of which it is not known yet
//! whether they hang together. Where ids are no hashes (room versions 1 and 2) they may even go in a circle.

use std::collections::{BTreeSet, HashMap};

use colonnade_model::ruma::{EventId, OwnedEventId};

use crate::event::Event;

mod arriving;

#[cfg(test)]
mod tests;

pub use self::arriving::Arriving;

/// A batch in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// Places in the batch, each after all of its auth events that are in the batch; the batch's own order
    /// where that leaves a choice. An event that is there twice is named once.
    pub order: Vec<usize>,
    /// Places of events that can never be checked: each needs itself, or one that does. Ascending.
    pub in_circles: Vec<usize>,
    /// Auth events that are not in the batch.
    pub missing: BTreeSet<OwnedEventId>,
}

/// Puts a batch of events into the order of their auth events. Takes time with the batch and its references.
pub fn by_auth_events<'e>(batch: impl IntoIterator<Item = &'e Event>) -> Order {
    let batch: Vec<&Event> = batch.into_iter().collect();
    let mut places: HashMap<&EventId, usize> = HashMap::with_capacity(batch.len());
    for (place, event) in batch.iter().enumerate() {
        places.entry(event.event_id()).or_insert(place);
    }
    let mut missing = BTreeSet::new();
    // How many auth events each waits for, and who waits for each.
    let mut waits = vec![0_usize; batch.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); batch.len()];
    let firsts = |place: &usize| places[batch[*place].event_id()] == *place;
    for place in (0..batch.len()).filter(firsts) {
        let named: BTreeSet<&OwnedEventId> = batch[place].auth_events().iter().collect();
        for id in named {
            match places.get(&**id) {
                Some(allowing) => {
                    waits[place] += 1;
                    waiting[*allowing].push(place);
                }
                None => {
                    missing.insert(id.clone());
                }
            }
        }
    }
    let mut ready: BTreeSet<usize> =
        (0..batch.len()).filter(firsts).filter(|place| waits[*place] == 0).collect();
    let mut order = Vec::with_capacity(batch.len());
    while let Some(place) = ready.pop_first() {
        order.push(place);
        for later in &waiting[place] {
            waits[*later] -= 1;
            if waits[*later] == 0 {
                ready.insert(*later);
            }
        }
    }
    let in_circles = (0..batch.len()).filter(|place| waits[*place] > 0).collect();
    Order { order, in_circles, missing }
}
