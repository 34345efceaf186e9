//! The budget of answers: how many bytes of them this process holds in memory at once, all together and for
//! one user or address, from before an answer is made until its last byte is written. What making it
//! takes is set aside before anything is read for it, and who asks waits in line for that, for a while.
//! When the answer is there, it is counted by its size: so whoever asks and does not take what is said
//! holds a share at most, and uses up nobody else's.
//!
//! 1. Half of the budget is for pages, half for answers that cannot be pages: these keep nobody from those.
//! 2. An answer of any size that is sent a piece at a time (a first sync, the state of a room) holds
//!    [`PIECES_BYTES`] however long it is taken, and few pieces are made at a time ([`Answers::piece`]).
//! 3. An answer that cannot be sent so, keys of many users or what a search found, grows while it is made
//!    ([`Growth`]), and only one at a time exceeds what there is room for: so all together exceed the
//!    budget by that one, which the number of what may be asked for bounds.
//! 4. What was made is not thrown away while nobody waits for its room. While somebody does, who takes next
//!    to nothing of it is cut off ([`Holding`]): a few accounts could keep everybody from reading, and a
//!    stalled device the others of its user.

mod growth;
mod portion;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use colonnade_model::MatrixError;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

pub use self::growth::Growth;
pub use self::portion::Pressure;
use self::portion::{Portion, UNIT};
use crate::{bodies::Payer, limits::Key};

/// Set aside for a page: a MiB of events as they are stored, parsed and rendered, and what hangs on them.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// What an answer holds that is sent a piece at a time: two pieces at the connection, and what is left of a
/// timeline, whose events are chosen together.
pub const PIECES_BYTES: usize = 2 * 1024 * 1024;
/// Pieces that are made at a time; each takes some megabytes for a moment.
const PIECES_MADE_MAX: usize = 8;
/// So many times its size such an answer counts for its payer: who reads slowly holds it for hours, and
/// a few accounts shall not fill the half of the budget with that.
const PIECES_WEIGHT: usize = 4;
/// Of the budget, one such part is set aside for an answer that cannot be a page.
const WHOLES: usize = 8;
/// What is rendered is in memory twice before it is sent: by its parts, and in one piece.
const MADE_COPIES: usize = 2;
/// One user or address holds at most this part of the budget: two answers that are no pages, of whatever
/// size, one of which somebody takes slowly.
const SHARE: usize = 4;
/// Requests of one user or address that wait for room: two connections of HTTP/2 with all they may ask at a
/// time. Each holds its connection and its body, which have bounds of their own.
const WAITING_MAX: usize = 256;
/// How long they wait: longer than it takes to find out who takes nothing. Answers come and go within a
/// second, except those of floods.
const WAIT_MAX: Duration = Duration::from_secs(15);
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
    /// What an answer takes that lists all there is, and is sent a piece at a time: [`PIECES_BYTES`].
    Pieces,
    /// What an answer takes that lists all there is, and is made whole: an eighth of the budget.
    Whole,
}

/// What one user or address has of the budget.
struct Share {
    portion: Portion,
    /// Requests that wait for room or have some.
    known: usize,
    waiting: usize,
}

/// The budget.
pub struct Answers {
    units_max: usize,
    pages: Portion,
    wholes: Portion,
    /// Held by the one answer for which there is no room.
    beyond: Portion,
    pieces: Portion,
    shares: Mutex<HashMap<Key, Share>>,
}

impl Answers {
    /// Makes a budget of so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        let units_max = usize::try_from(bytes_max).unwrap_or(usize::MAX) / UNIT;
        let units_max = units_max.min(u32::MAX as usize);
        Arc::new(Self {
            units_max,
            pages: Portion::new(units_max / 2),
            wholes: Portion::new(units_max / 2),
            beyond: Portion::new(1),
            pieces: Portion::new(PIECES_MADE_MAX),
            shares: Mutex::default(),
        })
    }

    /// Returns how many bytes are held or set aside.
    pub fn bytes(&self) -> usize {
        (self.pages.taken() + self.wholes.taken()) * UNIT
    }

    /// What is set aside for an answer that cannot be a page, and the most it counts for its payer.
    fn whole(&self) -> usize {
        (self.units_max / WHOLES).max(PAGE_BYTES / UNIT)
    }

    /// Waits for a turn to make the next piece of an answer that is sent by pieces.
    pub async fn piece(&self) -> PieceTurn {
        PieceTurn { _permit: self.pieces.take(1).await }
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
        let (from, units) = match need {
            Need::Little | Need::Own => return Ok(None),
            Need::Page => (&self.pages, PAGE_BYTES / UNIT),
            Need::Pieces => (&self.wholes, PIECES_BYTES / UNIT),
            Need::Whole => (&self.wholes, self.whole()),
        };
        let weight = if need == Need::Pieces { PIECES_WEIGHT } else { 1 };
        let mut place = self.place(payer)?;
        let taken = tokio::time::timeout(WAIT_MAX, async {
            let own = match &place.portion {
                Some(own) => Some(own.take(units * weight).await),
                None => None,
            };
            (own, from.take(units).await)
        });
        let taken = taken.await;
        place.stops_waiting();
        let (own, all) = taken.map_err(|_| MatrixError::limit_exceeded(RETRY_MS))?;
        let began = all.num_permits();
        Ok(Some(Reserved { own, all, from: from.clone(), began, beyond: None, place }))
    }

    /// Puts a request in line.
    fn place(self: &Arc<Self>, payer: Payer) -> Result<Place, MatrixError> {
        let answers = Arc::clone(self);
        let mut place = Place { answers, key: None, portion: None, waits: false };
        let Some(key) = payer.key() else { return Ok(place) };
        let mut shares = self.shares.lock();
        let share = shares.entry(key).or_insert_with(|| Share {
            portion: Portion::new(self.units_max / SHARE),
            known: 0,
            waiting: 0,
        });
        if share.waiting >= WAITING_MAX {
            return Err(MatrixError::limit_exceeded(RETRY_MS));
        }
        share.known += 1;
        share.waiting += 1;
        place.key = Some(key);
        place.portion = Some(share.portion.clone());
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

/// A turn to make a piece, given back when dropped.
#[derive(Debug)]
pub struct PieceTurn {
    _permit: OwnedSemaphorePermit,
}

/// The place of a request among those of its payer.
struct Place {
    answers: Arc<Answers>,
    key: Option<Key>,
    /// The share of its payer.
    portion: Option<Portion>,
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
    /// What `all` is taken from.
    from: Portion,
    /// How much was set aside before anything was read.
    began: usize,
    /// While it takes more than there is room for.
    beyond: Option<OwnedSemaphorePermit>,
    place: Place,
}

impl std::fmt::Debug for Reserved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reserved").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Reserved {
    fn bytes(&self) -> usize {
        self.all.num_permits() * UNIT
    }

    /// Returns the answer for which this was set aside, counted by its size until its last copy is dropped.
    pub fn pay(mut self, answer: Bytes) -> (Bytes, Holding) {
        if self.fits(answer.len().div_ceil(UNIT)) {
            self.beyond = None;
        }
        let holding = self.holding(answer.len());
        (Bytes::from_owner(Paid { answer, _reserved: self }), holding)
    }

    /// Begins to send an answer a piece at a time: it holds little from now on.
    pub fn pay_by_pieces(&mut self) -> Holding {
        let units = PIECES_BYTES / UNIT;
        self.from.resize(&mut self.all, units);
        if let (Some(own), Some(share)) = (&mut self.own, &self.place.portion) {
            share.resize(own, units * PIECES_WEIGHT);
        }
        self.beyond = None;
        self.holding(PIECES_BYTES)
    }

    fn holding(&self, bytes: usize) -> Holding {
        let own = self.place.portion.as_ref();
        let beyond = self.beyond.as_ref().map(|_| &self.place.answers.beyond);
        let from = [Some(&self.from), own, beyond].into_iter().flatten();
        Holding { bytes, wanted: from.map(Portion::pressure).collect() }
    }

    /// Sets aside what an answer takes of which so many bytes are rendered. When there is no room for it, it
    /// is made nevertheless, alone: any other in that case waits until it is taken.
    async fn grow(&mut self, bytes: usize) -> Result<(), MatrixError> {
        let units = bytes.saturating_mul(MADE_COPIES).div_ceil(UNIT);
        let is_set_aside = units <= self.all.num_permits();
        if self.beyond.is_some() || is_set_aside || self.fits(units) {
            return Ok(());
        }
        let answers = Arc::clone(&self.place.answers);
        let alone = tokio::time::timeout(WAIT_MAX, answers.beyond.take(1)).await;
        self.beyond = Some(alone.map_err(|_| MatrixError::limit_exceeded(RETRY_MS))?);
        Ok(())
    }

    /// Sets so much aside if there is room for it, nobody waits here; else what it began with. An answer that
    /// would take more than half of what it is taken from leaves that to others, too.
    fn fits(&mut self, units: usize) -> bool {
        let fits = units <= self.from.units_max() / 2 && self.resize(units);
        if !fits {
            self.resize(self.began);
        }
        fits
    }

    /// Makes what is set aside so large, or as large as there is room for, and says whether it is.
    fn resize(&mut self, units: usize) -> bool {
        if let (Some(own), Some(share)) = (&mut self.own, &self.place.portion) {
            share.resize(own, units.min(self.place.answers.whole()));
        }
        self.from.resize(&mut self.all, units)
    }
}

/// What an answer holds while it is written, and whether others wait for that.
#[derive(Debug, Clone, Default)]
pub struct Holding {
    bytes: usize,
    wanted: Vec<Pressure>,
}

impl Holding {
    /// Returns how many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Says whether requests wait for room that it has.
    pub fn is_wanted(&self) -> bool {
        self.wanted.iter().any(Pressure::is_on)
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
