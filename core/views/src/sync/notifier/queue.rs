//! Who is to be woken later.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Weak, atomic::AtomicBool},
};

use colonnade_model::stream::Touch;
use tokio::{sync::Notify, time::Instant};

/// Someone who waits: woken by any of the rooms, the user or the device.
#[derive(Default)]
pub(crate) struct Watcher {
    pub(crate) notify: Notify,
    /// Is in the queue of those who are woken at a pace.
    pub(crate) is_queued: AtomicBool,
}

/// Who is woken, one after the other.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Weak<Watcher>>,
    /// Nobody is woken before this.
    pub(crate) rests_until: Option<Instant>,
}

/// What moved and waits for company.
#[derive(Default)]
pub(crate) struct Gathering {
    pub(crate) touched: HashSet<Touch>,
    /// When whoever watches any of it is woken.
    pub(crate) due: Option<Instant>,
}
