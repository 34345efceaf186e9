//! Nouns of the homeserver over ruma's types: ids, streams, tokens, errors, clock, random. No
//! async, no I/O; everything above imports this, and this imports nothing of ours.

pub mod clock;
pub mod error;
pub mod json;
pub mod nid;
pub mod random;
pub mod session;
pub mod slot;
pub mod stream;
pub mod token;
pub mod versions;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::MatrixError;
pub use random::{Random, SeededRandom, SystemRandom};
pub use ruma;
