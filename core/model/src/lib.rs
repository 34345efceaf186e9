//! Nouns of the homeserver over ruma's types. No async, no I/O.

pub mod nid;

pub use ruma;
