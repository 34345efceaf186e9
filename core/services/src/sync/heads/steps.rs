//! Waking in steps: what everybody in a room is to hear, but not at this moment. Each login changes
//! presence and keys, and in a room of everybody each of them would wake everybody.
//!
//! The first is woken for at once; what comes after waits for the next step, and is one wake-up
//! then. Nothing is told later than it would be: whoever asks meanwhile, or is woken by something else,
//! is told of it.

use std::{collections::HashSet, time::Duration};

use colonnade_model::stream::{Stream, Touch};
use tokio::time::Instant;

use super::Heads;

/// The time from one step to the next at least.
const STEP: Duration = Duration::from_secs(1);
/// And at most.
const STEP_MAX: Duration = Duration::from_secs(10);
/// For each client woken by a step the next waits this long: 500 a second, in the long run.
const STEP_PER_CLIENT: Duration = Duration::from_millis(2);
/// Clients waiting for one room past which a change of presence wakes none of them: they hear of it
/// with their next answer. For keys they are woken: who writes has to know for whom to encrypt.
pub(super) const PRESENCE_CROWD_MAX: usize = 200;

/// What the next step wakes for.
#[derive(Default)]
pub(super) struct Steps {
    presence: HashSet<Touch>,
    keys: HashSet<Touch>,
    /// No step before this.
    rests_until: Option<Instant>,
}

impl Steps {
    /// When the next step is; `None` when nothing waits for it.
    fn due(&self) -> Option<Instant> {
        let is_empty = self.presence.is_empty() && self.keys.is_empty();
        (!is_empty).then(|| self.rests_until.unwrap_or_else(Instant::now))
    }
}

impl Heads {
    /// Leaves it to the next step to wake for these.
    pub(super) fn wake_later(&self, stream: Stream, touches: impl Iterator<Item = Touch>) {
        let mut steps = self.steps.lock();
        match stream {
            Stream::Presence => steps.presence.extend(touches),
            _ => steps.keys.extend(touches),
        }
    }

    /// Waits until a step is due; for ever if nothing waits for one.
    pub(super) async fn step_is_due(&self) {
        let due = self.steps.lock().due();
        match due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Wakes for what waited.
    pub(super) fn wake_step(&self) {
        let (presence, keys) = {
            let mut steps = self.steps.lock();
            (std::mem::take(&mut steps.presence), std::mem::take(&mut steps.keys))
        };
        let presence = presence.into_iter().filter(|touch| !keys.contains(touch));
        let woken = self.wake_those(presence, PRESENCE_CROWD_MAX)
            + self.wake_those(keys.iter().copied(), usize::MAX);
        let rest = STEP_PER_CLIENT * u32::try_from(woken).unwrap_or(u32::MAX);
        self.steps.lock().rests_until = Some(Instant::now() + rest.clamp(STEP, STEP_MAX));
    }
}
