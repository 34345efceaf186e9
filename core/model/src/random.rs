//! Randomness as an argument. The one place that asks the operating system for random bytes;
//! everything else is handed a [`Random`], so that a simulation can be replayed from its seed.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Letters and digits that can be typed, spoken and put into a URL unescaped.
const ALPHANUMERIC: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Gives random bytes fit for secrets.
pub trait Random: Send + Sync + 'static {
    /// Fills `bytes` with random values.
    fn fill(&self, bytes: &mut [u8]);

    /// Returns `length` random letters and digits (5.95 bits each).
    fn alphanumeric(&self, length: usize) -> String {
        let mut text = String::with_capacity(length);
        let mut bytes = [0u8; 64];
        while text.len() < length {
            self.fill(&mut bytes);
            // 248 is the largest multiple of 62 that a byte can hold: beyond it the choice would be uneven.
            let fair = bytes.iter().filter(|byte| **byte < 248);
            text.extend(
                fair.take(length - text.len())
                    .map(|byte| char::from(ALPHANUMERIC[usize::from(*byte) % ALPHANUMERIC.len()])),
            );
        }
        text
    }
}

/// The operating system's random numbers.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one door to the system's randomness"
    )]
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill(bytes);
    }
}

/// Repeatable numbers from a seed; for tests, never for secrets.
#[derive(Debug)]
pub struct SeededRandom(std::sync::Mutex<StdRng>);

impl SeededRandom {
    /// Makes a generator that always gives the same numbers for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self(std::sync::Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill(bytes);
    }
}
