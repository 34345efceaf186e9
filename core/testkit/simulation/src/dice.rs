//! Numbers by a seed, and nothing else by chance.

/// A source of numbers (SplitMix64, by Steele, Lea and Flood): the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Makes the dice of one part of a run, so that what one part throws says nothing to another.
    pub fn new(seed: u64, part: &str) -> Self {
        let text = blake3::hash(format!("{seed} {part}").as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&text.as_bytes()[..8]);
        Self(u64::from_le_bytes(bytes))
    }

    /// Throws: any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` up to and without `high`.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.any() % (high - low).max(1).unsigned_abs()) as i64
    }

    /// The place of one of `count` things.
    pub fn place(&mut self, count: usize) -> usize {
        (self.any() % count.max(1) as u64) as usize
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.any() % 1_000 < in_a_thousand
    }

    /// Puts things into any order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.place(last + 1));
        }
    }
}

/// Randomness for the services of one process.
#[derive(Debug)]
pub(crate) struct Chance(pub(crate) parking_lot::Mutex<Dice>);

impl colonnade_model::Random for Chance {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock();
        bytes.iter_mut().for_each(|byte| *byte = (dice.any() >> 32) as u8);
    }
}
