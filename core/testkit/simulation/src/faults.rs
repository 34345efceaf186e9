//! Which faults a run has, and when: each run has a character of its own, or else every run would
//! be the same middling weather.

use crate::{dice::Dice, disk::Spell, net::Ways};

/// What happens to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is killed, and comes back later.
    Death,
    /// It stands still, and goes on later.
    Pause,
    /// It is asked to end, and comes back.
    Leave,
}

/// Something that happens to a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) kind: Kind,
    pub(crate) lasts_ms: i64,
}

/// The faults of a run.
pub(crate) struct Faults {
    dice: Dice,
    /// When they are over.
    pub(crate) until_ms: i64,
    kinds: Vec<Kind>,
    every_ms: i64,
    pause_max_ms: i64,
    worst_ways: Ways,
    worst_spell: Spell,
    next_ways_ms: i64,
    next_spell_ms: i64,
    next_blow_ms: i64,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "faults");
        let mut kinds = Vec::new();
        for kind in [Kind::Death, Kind::Pause, Kind::Leave] {
            if dice.chance(600) {
                kinds.push(kind);
            }
        }
        let mut upto = |most: i64| match dice.chance(700) {
            true => dice.between(1, most).unsigned_abs(),
            false => 0,
        };
        let worst_ways = Ways {
            lost: upto(500),
            twice: upto(300),
            late: upto(500),
            cut: upto(150),
            away: upto(2) == 1,
        };
        let worst_spell =
            Spell { slow: upto(60), unread: upto(10), failed: upto(100), forgotten: upto(100) };
        Self {
            until_ms: dice.between(2_000, 6_000),
            every_ms: dice.between(300, 2_000),
            pause_max_ms: dice.between(500, 4_500),
            kinds,
            worst_ways,
            worst_spell,
            next_ways_ms: 0,
            next_spell_ms: 0,
            next_blow_ms: dice.between(300, 1_500),
            dice,
        }
    }

    /// Returns how the ways are from now on, when that changes.
    pub(crate) fn ways(&mut self, now_ms: i64) -> Option<Ways> {
        if now_ms < self.next_ways_ms {
            return None;
        }
        self.next_ways_ms = now_ms + self.dice.between(200, 1_500);
        Some(match self.dice.chance(650) {
            true => Ways { away: self.worst_ways.away && self.dice.chance(400), ..self.worst_ways },
            false => Ways::default(),
        })
    }

    /// Returns how the database is from now on, when that changes.
    pub(crate) fn spell(&mut self, now_ms: i64) -> Option<Spell> {
        if now_ms < self.next_spell_ms {
            return None;
        }
        self.next_spell_ms = now_ms + self.dice.between(200, 1_500);
        Some(if self.dice.chance(500) { self.worst_spell } else { Spell::default() })
    }

    /// Returns what happens to a process now, if anything.
    pub(crate) fn blow(&mut self, now_ms: i64) -> Option<Blow> {
        if now_ms < self.next_blow_ms || self.kinds.is_empty() {
            return None;
        }
        self.next_blow_ms = now_ms + self.dice.between(100, self.every_ms);
        let kind = self.kinds[self.dice.place(self.kinds.len())];
        let lasts_ms = match kind {
            Kind::Death | Kind::Leave => self.dice.between(50, 1_500),
            Kind::Pause => self.dice.between(100, self.pause_max_ms),
        };
        Some(Blow { kind, lasts_ms })
    }
}
