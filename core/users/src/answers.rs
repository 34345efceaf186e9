//! The budget of answers: how many bytes of them this process holds in memory at once, all together and for
//! one user or address, from before an answer is made until its last byte is written. What making it
//! takes is set aside before anything is read for it, and who asks waits in line for that, for a while.
//! When the answer is there, it is counted by its size: so whoever asks and does not take what is said
//! holds a share at most, and uses up nobody else's.
//!
//! 1. One answer is always possible, of whatever size: a client that cannot have its first sync could do
//!    nothing about it. While an answer is made, what it takes grows ([`Growth`]), and only one at a time
//!    exceeds what there is room for: so all together exceed the budget by that one.
//! 2. What was made is not thrown away while nobody waits for its room. While somebody does ([`Pressure`]),
//!    who takes a large answer slowly is cut off: a few accounts could keep everybody from reading, and a
//!    stalled device the others of its user.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use colonnade_model::MatrixError;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{bodies::Payer, limits::Key};

/// What is counted at once, in bytes: a semaphore counts to four billion of them.
const UNIT: usize = 1024;
/// Set aside for a page: a MiB of events as they are stored, parsed and rendered, and what hangs on them.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Of the budget, one such part is set aside for an answer that cannot be a page.
const WHOLES: usize = 8;
/// Such answers that are made at a time.
const MADE_MAX: usize = 4;
/// What is rendered is in memory twice before it is sent: by its parts, and in one piece.
const MADE_COPIES: usize = 2;
/// One user or address holds at most this part of the budget: two such answers, of whatever size, one of
/// which somebody takes slowly.
const SHARE: usize = 4;
/// Requests of one user or address that wait for room: two connections of HTTP/2 with all they may ask at a
/// time. Each holds its connection and its body, which have bounds of their own.
const WAITING_MAX: usize = 256;
/// How long they wait. Answers come and go within a second, except those of floods.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// When to try again, in milliseconds, for who has waited.
const RETRY_MS: u64 = 2_000;

/// What making an answer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Next to nothing: it is small whatever was stored.
    Little,
    /// The service that makes it says so when it begins: it may wait for something to tell.
    Own,
    /// What a page takes, [`PAGE_BYTES`].
    Page,
    /// What an answer takes that lists all there is: an eighth of the budget.
    Whole,
}

/// What one user or address has of the budget.
struct Share {
    room: Arc<Semaphore>,
    pressure: Pressure,
    /// Requests that wait for room or have some.
    known: usize,
    waiting: usize,
}

/// The budget.
pub struct Answers {
    units_max: usize,
    room: Arc<Semaphore>,
    making: Arc<Semaphore>,
    /// Held by the one answer for which there is no room.
    beyond: Arc<Semaphore>,
    pressure: Pressure,
    shares: Mutex<HashMap<Key, Share>>,
}

/// Whether requests wait for room that other answers have.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<AtomicUsize>);

impl Pressure {
    /// Says whether any waits now.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) -> Pressing {
        self.0.fetch_add(1, Ordering::Relaxed);
        Pressing(self.clone())
    }
}

/// A request that waits.
struct Pressing(Pressure);

impl Drop for Pressing {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Answers {
    /// Makes a budget of so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        let units_max = usize::try_from(bytes_max).unwrap_or(usize::MAX) / UNIT;
        let units_max = units_max.min(u32::MAX as usize);
        let room = Arc::new(Semaphore::new(units_max));
        let (making, beyond) = (Semaphore::new(MADE_MAX), Semaphore::new(1));
        let (making, beyond) = (Arc::new(making), Arc::new(beyond));
        let (pressure, shares) = (Pressure::default(), Mutex::default());
        Arc::new(Self { units_max, room, making, beyond, pressure, shares })
    }

    /// Returns how many bytes are held or set aside.
    pub fn bytes(&self) -> usize {
        (self.units_max - self.room.available_permits()) * UNIT
    }

    /// Whether requests wait for room.
    pub fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }

    /// What is set aside for an answer that cannot be a page, and the most it counts for its payer.
    fn whole(&self) -> usize {
        (self.units_max / WHOLES).max(PAGE_BYTES / UNIT)
    }

    /// Sets aside what making an answer takes, as soon as there is room.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when there is none for long, or too many of this payer wait already.
    pub async fn reserve(
        self: &Arc<Self>,
        payer: Payer,
        need: Need,
    ) -> Result<Option<Reserved>, MatrixError> {
        let units = match need {
            Need::Little | Need::Own => return Ok(None),
            Need::Page => PAGE_BYTES / UNIT,
            Need::Whole => self.whole(),
        };
        let mut place = self.place(payer)?;
        let taken = tokio::time::timeout(WAIT_MAX, async {
            let own = match &place.room {
                Some(room) => Some(take_pressing(room, units, &place.pressure).await?),
                None => None,
            };
            let all = take_pressing(&self.room, units, &self.pressure).await?;
            let making = match need {
                Need::Whole => Some(take(&self.making, 1).await?),
                _ => None,
            };
            Some((own, all, making))
        });
        let taken = taken.await.ok().flatten();
        place.stops_waiting();
        let (own, all, making) = taken.ok_or_else(|| MatrixError::limit_exceeded(RETRY_MS))?;
        Ok(Some(Reserved { own, all, making, beyond: None, place }))
    }

    /// Puts a request in line.
    fn place(self: &Arc<Self>, payer: Payer) -> Result<Place, MatrixError> {
        let (answers, pressure) = (Arc::clone(self), Pressure::default());
        let mut place = Place { answers, key: None, room: None, pressure, waits: false };
        let Some(key) = payer.key() else { return Ok(place) };
        let mut shares = self.shares.lock();
        let share = shares.entry(key).or_insert_with(|| Share {
            room: Arc::new(Semaphore::new(self.units_max / SHARE)),
            pressure: Pressure::default(),
            known: 0,
            waiting: 0,
        });
        if share.waiting >= WAITING_MAX {
            return Err(MatrixError::limit_exceeded(RETRY_MS));
        }
        share.known += 1;
        share.waiting += 1;
        place.key = Some(key);
        place.room = Some(Arc::clone(&share.room));
        place.pressure = share.pressure.clone();
        place.waits = true;
        Ok(place)
    }

    fn leaves(&self, key: Key, waits: bool, goes: bool) {
        let mut shares = self.shares.lock();
        let Some(share) = shares.get_mut(&key) else { return };
        share.waiting -= usize::from(waits);
        share.known -= usize::from(goes);
        if share.known == 0 {
            shares.remove(&key);
        }
    }
}

/// Takes so much of a room. `None` never: no room is ever closed.
async fn take(room: &Arc<Semaphore>, units: usize) -> Option<OwnedSemaphorePermit> {
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    Arc::clone(room).acquire_many_owned(units).await.ok()
}

/// Takes so much of a room; while there is none, says so to those who have it.
async fn take_pressing(
    room: &Arc<Semaphore>,
    units: usize,
    pressure: &Pressure,
) -> Option<OwnedSemaphorePermit> {
    match Arc::clone(room).try_acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)) {
        Ok(taken) => Some(taken),
        Err(_) => {
            let _pressing = pressure.begin();
            take(room, units).await
        }
    }
}

/// The place of a request among those of its payer.
struct Place {
    answers: Arc<Answers>,
    key: Option<Key>,
    room: Option<Arc<Semaphore>>,
    /// Whether its payer waits for the share.
    pressure: Pressure,
    waits: bool,
}

impl Place {
    fn stops_waiting(&mut self) {
        if let Some(key) = self.key.filter(|_| self.waits) {
            self.answers.leaves(key, true, false);
            self.waits = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.answers.leaves(key, self.waits, true);
        }
    }
}

/// A part of the budget, given back when dropped.
pub struct Reserved {
    // Given back in this order: the share is forgotten last.
    own: Option<OwnedSemaphorePermit>,
    all: OwnedSemaphorePermit,
    /// Until the answer is made.
    making: Option<OwnedSemaphorePermit>,
    /// While it takes more than there is room for.
    beyond: Option<OwnedSemaphorePermit>,
    place: Place,
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("units", &self.all.num_permits()).finish_non_exhaustive()
    }
}

impl Reserved {
    /// Whether requests of its payer wait for room in his share.
    pub fn pressure(&self) -> Pressure {
        self.place.pressure.clone()
    }

    /// Returns how many bytes are set aside.
    pub fn bytes(&self) -> usize {
        self.all.num_permits() * UNIT
    }

    /// Returns the answer for which this was set aside, counted by its size until its last copy is dropped.
    pub fn pay(mut self, answer: Bytes) -> Bytes {
        let units = answer.len().div_ceil(UNIT);
        self.resize(units);
        self.making = None;
        if self.all.num_permits() >= units {
            self.beyond = None;
        }
        Bytes::from_owner(Paid { answer, _reserved: self })
    }

    /// Sets aside what an answer takes of which so many bytes are rendered. When there is no room for it, it
    /// is made nevertheless, alone: any other in that case waits until it is taken.
    async fn grow(&mut self, bytes: usize) -> Result<(), MatrixError> {
        let units = bytes.saturating_mul(MADE_COPIES).div_ceil(UNIT);
        if self.beyond.is_some() || units <= self.all.num_permits() {
            return Ok(());
        }
        self.resize(units);
        if self.all.num_permits() < units {
            let answers = Arc::clone(&self.place.answers);
            let _pressing = answers.pressure.begin();
            let alone = tokio::time::timeout(WAIT_MAX, take(&answers.beyond, 1)).await;
            let alone = alone.ok().flatten();
            self.beyond = Some(alone.ok_or_else(|| MatrixError::limit_exceeded(RETRY_MS))?);
        }
        Ok(())
    }

    /// Makes what is set aside so large, or as large as there is room for: nobody waits here.
    fn resize(&mut self, units: usize) {
        let answers = Arc::clone(&self.place.answers);
        resize(&mut self.all, units, &answers.room);
        if let (Some(own), Some(room)) = (&mut self.own, &self.place.room) {
            resize(own, units.min(answers.whole()), room);
        }
    }
}

/// What an answer takes while it is made, if its size is not known before.
pub struct Growth(tokio::sync::Mutex<Grown>);

#[derive(Default)]
struct Grown {
    bytes: usize,
    reserved: Option<Reserved>,
}

impl Growth {
    /// Begins with what was set aside; `None` counts nothing.
    pub fn from(reserved: Option<Reserved>) -> Self {
        Self(tokio::sync::Mutex::new(Grown { bytes: 0, reserved }))
    }

    /// Sets aside what a part of the answer takes that was just rendered, before the next is read.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when another answer has been beyond the budget for long.
    pub async fn add(&self, bytes: usize) -> Result<(), MatrixError> {
        let mut grown = self.0.lock().await;
        grown.bytes += bytes;
        let bytes = grown.bytes;
        match &mut grown.reserved {
            Some(reserved) => reserved.grow(bytes).await,
            None => Ok(()),
        }
    }

    /// Returns what is set aside.
    pub fn into_reserved(self) -> Option<Reserved> {
        self.0.into_inner().reserved
    }
}

/// Makes a permit so large; smaller than that where the room has no more, for nobody waits here.
fn resize(permit: &mut OwnedSemaphorePermit, units: usize, room: &Arc<Semaphore>) {
    let has = permit.num_permits();
    if units < has {
        drop(permit.split(has - units));
    } else if let Ok(more) = u32::try_from((units - has).min(room.available_permits()))
        && let Ok(more) = Arc::clone(room).try_acquire_many_owned(more)
    {
        permit.merge(more);
    }
}

/// An answer and what it holds of the budget.
struct Paid {
    answer: Bytes,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Paid {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests;
