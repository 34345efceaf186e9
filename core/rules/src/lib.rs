//! Verbs on events, as pure functions: no async, no clock, no I/O.
//!
//! Read in this order: [`event`] is what everything else is about, [`auth`] and [`power`] say
//! what is allowed, [`order`] in which order to ask, [`acl`] which servers; [`trie`] holds room
//! states and [`resolve`] merges them, [`policy`] says who else is asked about an event, [`visibility`] says who may see an event, [`push`] what it
//! means to them, [`summary`] how its room is shown.

pub mod account_data;
pub mod acl;
pub mod auth;
pub mod event;
pub mod order;
pub mod policy;
pub mod power;
pub mod push;
pub mod resolve;
pub mod signature;
pub mod summary;
pub mod trie;
pub mod visibility;

#[cfg(test)]
mod sample;
