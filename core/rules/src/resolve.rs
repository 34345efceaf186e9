//! State resolution: one state from several, by the algorithm of the room's version.
//!
//! A [`Resolver`] takes what differs between the forks and asks for the little else it needs, so its cost follows
//! the conflict, not the room. It is fed by its caller, who owns the database:
//!
//! ```text
//! let mut resolver = Resolver::new(forks, room_rules, Chains::WithState);
//! let resolution = loop {
//!     match resolver.step()? {
//!         Step::Events(ids) => resolver.add_events(load_events(&ids).await?),
//!         Step::Newer(ids) => resolver.add_newer(unconflicted_newer_than_oldest(&ids).await?),
//!         Step::Keys(keys) => resolver.add_keys(look_up_unconflicted(&keys).await?),
//!         Step::Done(resolution) => break resolution,
//!     }
//! };
//! ```
//!
//! What is asked for, and why, stands with the algorithms: `v1` for room version 1, `v2` for all others. With
//! one fork, with equal forks, or with nothing conflicted, do not come here.

use std::sync::Arc;

use colonnade_model::ruma::{OwnedEventId, room_version_rules::RoomVersionRules};

use crate::{auth::StateKey, event::Event};

mod chains;
mod step;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

pub use self::{
    chains::Chains,
    step::{ForkEntries, Resolution, ResolveError, Step},
};
use self::{v1::First, v2::Second};

/// A resolution under way; see the head of this file for how to drive it.
#[derive(Debug)]
pub struct Resolver(Algorithm);

#[derive(Debug)]
enum Algorithm {
    First(First),
    Second(Box<Second>),
}

impl Resolver {
    /// Starts a resolution of what differs between two or more forks.
    pub fn new(forks: Vec<ForkEntries>, rules: &RoomVersionRules, chains: Chains) -> Self {
        Self(match rules.state_res.v2_rules() {
            None => Algorithm::First(First::new(forks, rules)),
            Some(second) => Algorithm::Second(Box::new(Second::new(forks, rules, *second, chains))),
        })
    }

    /// Takes the events found in answer to [`Step::Events`]; those that do not exist are left
    /// out. Events that happen to be at hand may be given as well, at any time.
    pub fn add_events(&mut self, events: impl IntoIterator<Item = Arc<Event>>) {
        match &mut self.0 {
            Algorithm::First(first) => first.add_events(events),
            Algorithm::Second(second) => second.add_events(events),
        }
    }

    /// Takes the answer to [`Step::Newer`].
    pub fn add_newer(&mut self, unconflicted: impl IntoIterator<Item = OwnedEventId>) {
        match &mut self.0 {
            // Does not ask for them.
            Algorithm::First(_) => {}
            Algorithm::Second(second) => second.add_newer(unconflicted),
        }
    }

    /// Takes the answer to [`Step::Keys`]; a key that no fork has is left out.
    pub fn add_keys(&mut self, keys: impl IntoIterator<Item = (StateKey, OwnedEventId)>) {
        match &mut self.0 {
            Algorithm::First(first) => first.add_keys(keys),
            Algorithm::Second(second) => second.add_keys(keys),
        }
    }

    /// Goes as far as what was given allows.
    ///
    /// # Errors
    /// [`ResolveError::Events`] when the events make no sense.
    pub fn step(&mut self) -> Result<Step, ResolveError> {
        match &mut self.0 {
            Algorithm::First(first) => Ok(first.step()),
            Algorithm::Second(second) => second.step(),
        }
    }
}
