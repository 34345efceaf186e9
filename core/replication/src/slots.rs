//! Who owns what, as this process knows it: the map of slots, read again whenever its epoch changes.
//!
//! What is here may be out of date, and then costs a detour: what is true is the fence's to say, in
//! the transaction that writes. Reading the map late is safe, since the ownership epoch of a slot is
//! part of what the fence checks.

mod duty;
mod member;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use colonnade_storage::{
    Database,
    error::Result,
    ownership::{
        Ownership,
        coordinator::{self, Owner, SlotMap},
        pools::ROOMS,
    },
};
use parking_lot::RwLock;
use tokio::sync::Notify;

pub use duty::{Duty, Right};
pub use member::{Join, Member};

use crate::Latest;

/// Where the owner of a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this process, since this epoch.
    Here {
        /// The epoch.
        since: i64,
    },
    /// In another process.
    There {
        /// Where it listens.
        address: String,
    },
    /// Nobody knows: the last owner is gone, and the next one not named.
    Nowhere,
}

/// The map of slots, and who we are in it.
pub struct Slots {
    /// 0: no other process exists, and everything is ours.
    incarnation: AtomicI64,
    /// Whether there may be other processes.
    shared: bool,
    map: RwLock<Arc<SlotMap>>,
    epoch: Latest<i64>,
    asked: Notify,
    /// Our incarnation was taken over.
    ended: AtomicBool,
    gone: Notify,
}

impl Slots {
    /// Makes the map of a process that is alone (`shared` false), or takes part in a cluster.
    pub fn new(shared: bool) -> Self {
        Self {
            incarnation: AtomicI64::new(0),
            shared,
            map: RwLock::default(),
            epoch: Latest::new(0),
            asked: Notify::new(),
            ended: AtomicBool::new(false),
            gone: Notify::new(),
        }
    }

    /// Tells whether this process takes part in a cluster.
    pub fn is_shared(&self) -> bool {
        self.shared
    }

    /// Returns the map; its epoch is 0 until it is known.
    pub fn map(&self) -> Arc<SlotMap> {
        Arc::clone(&self.map.read())
    }

    /// Returns where the owner of a room's slot is.
    pub fn place(&self, slot: u16) -> Place {
        if !self.shared {
            return Place::Here { since: 0 };
        }
        let map = self.map();
        let Some(owner) = map.owner(ROOMS, slot) else { return Place::Nowhere };
        if self.is_ours(owner) {
            return Place::Here { since: owner.since };
        }
        map.member(owner.incarnation)
            .map_or(Place::Nowhere, |member| Place::There { address: member.address.clone() })
    }

    /// Tells whether a slot with this owner is ours.
    fn is_ours(&self, owner: Owner) -> bool {
        owner.incarnation != 0 && owner.incarnation == self.incarnation.load(Ordering::Acquire)
    }

    /// Returns by what right this process writes to rooms.
    pub fn ownership(&self) -> Ownership {
        match self.shared {
            // -1 is nobody: a process that has not joined yet owns nothing.
            true => match self.incarnation.load(Ordering::Acquire) {
                0 => Ownership { pool: ROOMS, incarnation: -1 },
                incarnation => Ownership { pool: ROOMS, incarnation },
            },
            false => Ownership::default(),
        }
    }

    /// Asks for the map to be read soon, since it turned out to be old.
    pub fn look_again(&self) {
        self.asked.notify_one();
    }

    /// Waits until the epoch is another one than `known`, but not longer than `patience`.
    pub async fn changed(&self, known: i64, patience: Duration) -> i64 {
        let changed = self.epoch.when(|epoch| *epoch != known);
        let _in_time = tokio::time::timeout(patience, changed).await;
        self.epoch.get()
    }

    /// Waits until the map is the one of `epoch` or a later one, but not longer than `patience`: another
    /// process has it already.
    pub async fn reached(&self, epoch: i64, patience: Duration) {
        if self.epoch.get() < epoch {
            self.look_again();
            let there = self.epoch.when(|now| *now >= epoch);
            let _in_time = tokio::time::timeout(patience, there).await;
        }
    }

    /// Returns where the owner of a room's slot is, and by which epoch, to tell somebody whose map is of
    /// the epoch `known`: `None` unless ours is newer and names another process, which stays. What one
    /// that leaves owns is about to move again.
    pub fn moved(&self, slot: u16, known: i64) -> Option<(String, i64)> {
        let map = self.map();
        let owner = map.owner(ROOMS, slot)?;
        if !self.shared || self.is_ours(owner) || map.epoch <= known {
            return None;
        }
        let member = map.member(owner.incarnation)?;
        (!member.draining).then(|| (member.address.clone(), map.epoch))
    }

    /// Tells whether this process lost its right to write, and has to begin anew.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Waits until this process lost its right to write.
    pub async fn ended(&self) {
        loop {
            let gone = self.gone.notified();
            if self.has_ended() {
                return;
            }
            gone.await;
        }
    }

    fn end(&self) {
        if !self.ended.swap(true, Ordering::AcqRel) {
            tracing::error!(
                "this process was taken for dead, and others have its rooms now: it has to be \
                 started again"
            );
        }
        self.gone.notify_waiters();
    }

    /// Reads the map if its epoch is another one than ours.
    async fn refresh(&self, db: &Database) -> Result<()> {
        if coordinator::epoch(db).await? == self.epoch.get() && self.map.read().epoch != 0 {
            return Ok(());
        }
        let map = coordinator::slot_map(db).await?;
        let epoch = map.epoch;
        *self.map.write() = Arc::new(map);
        self.epoch.set(epoch);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
