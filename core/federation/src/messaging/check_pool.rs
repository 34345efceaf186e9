//! Where signatures are checked: threads that may compute, as many at a time as there are cores. Whoever waits
//! gets a turn in the order of coming, and a turn is short, so nobody's thousands keep another's one waiting
//! for longer than a turn each. The events of a state, as they come by the ten thousand with a join, have half of the
//! turns at most: what people say goes on meanwhile.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use colonnade_model::MatrixError;
use colonnade_rooms::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// A few events that somebody sent.
    Events,
    /// A piece of a room's state.
    State,
}

/// Turns to compute.
pub(super) struct CheckPool {
    turns: Arc<Semaphore>,
    state_turns: Arc<Semaphore>,
    given: AtomicU64,
    waited_most: AtomicU64,
}

impl CheckPool {
    /// Makes as many turns as this machine has cores.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self::of(cores)
    }

    fn of(cores: usize) -> Self {
        let turns = Arc::new(Semaphore::new(cores));
        let state_turns = Arc::new(Semaphore::new(cores.div_ceil(2)));
        Self { turns, state_turns, given: AtomicU64::new(0), waited_most: AtomicU64::new(0) }
    }

    /// Returns how many turns were given, and the most that others were given while somebody waited.
    pub(super) fn read(&self) -> (u64, u64) {
        (self.given.load(Ordering::Relaxed), self.waited_most.load(Ordering::Relaxed))
    }

    /// Runs what computes for long where it keeps nobody waiting, when it is its turn. A turn lasts as long as
    /// the work, also when nobody waits for it any more.
    ///
    /// # Errors
    /// When the work panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: Work,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let of_state = match work {
            Work::Events => None,
            Work::State => Some(turn(&self.state_turns).await?),
        };
        let given = self.given.load(Ordering::Relaxed);
        let turn = turn(&self.turns).await?;
        let waited = self.given.fetch_add(1, Ordering::Relaxed).saturating_sub(given);
        self.waited_most.fetch_max(waited, Ordering::Relaxed);
        let done = tokio::task::spawn_blocking(move || {
            let done = compute();
            drop((turn, of_state));
            done
        });
        done.await.map_err(|error| internal(&error))
    }
}

async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(turns).acquire_owned().await.map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> Error {
    MatrixError::internal(format!("a check ended: {error}")).into()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_state_leaves_turns_to_others() {
        let pool = CheckPool::of(2);
        let (go, wait) = mpsc::channel::<()>();
        let first = pool.run(Work::State, move || wait.recv().is_ok());
        let mut first = Box::pin(first);
        assert!(first.as_mut().now_or_never().is_none(), "it computes");
        let mut second = Box::pin(pool.run(Work::State, || true));
        assert!(second.as_mut().now_or_never().is_none(), "one of two turns is a state's");
        assert!(pool.run(Work::Events, || true).await.unwrap(), "the other one is free");
        go.send(()).unwrap();
        assert!(first.await.unwrap() && second.await.unwrap());
    }

    #[tokio::test]
    async fn turns_are_given_in_the_order_of_coming() {
        let pool = CheckPool::of(1);
        let (go, wait) = mpsc::channel::<usize>();
        let (note, noted) = mpsc::channel::<usize>();
        let first = {
            let note = note.clone();
            pool.run(Work::Events, move || note.send(wait.recv().unwrap_or(9)).is_ok())
        };
        let mut waiting = vec![first.boxed_local()];
        for number in 1..4 {
            let note = note.clone();
            let run = pool.run(Work::Events, move || note.send(number).is_ok());
            waiting.push(run.boxed_local());
        }
        for run in &mut waiting {
            assert!(run.now_or_never().is_none());
        }
        go.send(0).unwrap();
        for run in futures_util::future::join_all(waiting).await {
            assert!(run.unwrap());
        }
        assert_eq!(noted.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
