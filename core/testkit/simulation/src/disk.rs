//! What becomes of the statements of a process: late, failed, or done and not answered. Looks, at
//! each commit, whether the process owned what it wrote.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use colonnade_model::{
    nid::RoomNid,
    stream::{Stream, StreamAdvance, Touch},
};
use colonnade_replication::Slots;
use colonnade_storage::{Fate, StorageError, error::Result};
use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;

use crate::{dice::Dice, history::History, observer::Observer};

/// How bad the database is, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spell {
    /// Statements that take long.
    pub(crate) slow: u64,
    /// Reads that fail.
    pub(crate) unread: u64,
    /// Commits that fail.
    pub(crate) failed: u64,
    /// Commits whose answer is lost, and which are looked up after a while.
    pub(crate) forgotten: u64,
}

/// The database as one run of a process sees it.
pub(crate) struct Disk {
    pub(crate) name: String,
    pub(crate) history: Arc<History>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) spell: Arc<Mutex<Spell>>,
    pub(crate) dice: Mutex<Dice>,
    pub(crate) slots: OnceLock<Arc<Slots>>,
    /// Rooms written to although they were not owned before the commit.
    pub(crate) doubted: Mutex<Vec<RoomNid>>,
}

impl Disk {
    fn pause(&self, usual_ms: i64, slow_ms: i64) -> i64 {
        let slow = self.spell.lock().slow;
        let mut dice = self.dice.lock();
        match dice.chance(slow) {
            true => dice.between(usual_ms, slow_ms),
            false if dice.chance(500) => 0,
            false => dice.between(0, usual_ms),
        }
    }

    fn throws(&self, of: impl Fn(&Spell) -> u64) -> bool {
        let chance = of(&self.spell.lock());
        self.dice.lock().chance(chance)
    }

    /// Returns those rooms an advance touched that this process does not own by the database.
    fn unowned(&self, rooms: impl Iterator<Item = RoomNid>) -> Vec<RoomNid> {
        let incarnation = self.slots.get().map_or(0, |slots| slots.ownership().incarnation);
        rooms.filter(|room| self.observer.owner(*room) != Some(incarnation)).collect()
    }
}

async fn rest(ms: i64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms.unsigned_abs())).await;
    }
}

impl Fate for Disk {
    fn read(&self) -> BoxFuture<'_, Result<()>> {
        let (ms, fails) = (self.pause(3, 600), self.throws(|spell| spell.unread));
        async move {
            rest(ms).await;
            match fails {
                true => Err(StorageError::Unavailable("the connection broke".to_owned())),
                false => Ok(()),
            }
        }
        .boxed()
    }

    fn write(&self) -> BoxFuture<'_, ()> {
        let ms = self.pause(5, 2_000);
        rest(ms).boxed()
    }

    fn commits(&self, sealed: &[StreamAdvance]) -> bool {
        if self.throws(|spell| spell.failed) {
            self.history.note(format_args!("{}: a commit fails", self.name));
            return false;
        }
        let events = sealed.iter().filter(|advance| advance.stream == Stream::Events);
        let touched = events.flat_map(|advance| &advance.touched);
        let rooms = touched.filter_map(|(touch, _)| match touch {
            Touch::Room(room) => Some(*room),
            _ => None,
        });
        *self.doubted.lock() = self.unowned(rooms);
        for StreamAdvance { stream, prev, upto, touched } in sealed {
            let name = stream.name();
            self.history.note(format_args!("{}: {name} {prev}..{upto} {touched:?}", self.name));
        }
        true
    }

    fn answers(&self) -> BoxFuture<'_, bool> {
        // Whoever got the slot in the same transaction owns it now.
        let doubted = std::mem::take(&mut *self.doubted.lock());
        for room in self.unowned(doubted.into_iter()) {
            let what = format!("{} committed to {room:?} without owning it", self.name);
            self.history.violated(what);
        }
        let forgotten = self.throws(|spell| spell.forgotten);
        let ms = match forgotten {
            true => self.dice.lock().between(50, 4_000),
            false => self.pause(3, 400),
        };
        if forgotten {
            self.history
                .note(format_args!("{}: a commit without an answer for {ms} ms", self.name));
        }
        async move {
            rest(ms).await;
            !forgotten
        }
        .boxed()
    }
}
