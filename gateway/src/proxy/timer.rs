//! One deadline of a connection, moved with every request without asking the runtime each time: the
//! runtime's timer is armed at or before it, and looked at again when it fires too early.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline.
#[derive(Debug)]
pub(crate) struct Timer {
    due: Instant,
    armed: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Timer {
    /// A deadline this far from now.
    pub(crate) fn new(after: Duration) -> Self {
        Self { due: Instant::now() + after, armed: None }
    }

    /// Moves the deadline.
    pub(crate) fn set(&mut self, after: Duration) {
        self.due = Instant::now() + after;
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.due;
            let (armed, sleep) =
                self.armed.get_or_insert_with(|| (due, Box::pin(sleep_until(due))));
            if due < *armed {
                *armed = due;
                sleep.as_mut().reset(due);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            *armed = due;
            sleep.as_mut().reset(due);
        }
    }
}
