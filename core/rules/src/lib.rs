//! Verbs on events, as pure functions: no async, no clock, no I/O.

pub mod trie;
