//! Verbs on events, as pure functions: no async, no clock, no I/O.
//!
//! Read in this order: [`event`] is what everything else is about, [`auth`] and [`power`] say
//! what is allowed, [`trie`] holds room states, [`resolve`] merges them.

pub mod auth;
pub mod event;
pub mod power;
pub mod resolve;
pub mod trie;

#[cfg(test)]
mod sample;
