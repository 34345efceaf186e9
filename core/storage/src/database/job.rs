//! One caller's write, as the writers of both engines see it: something to run inside a transaction
//! that others share, and somebody to be told once it is committed.

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::sync::oneshot;

use super::{Lane, Tx};
use crate::error::{Result, StorageError};

/// A write, without its types.
pub(super) trait Job: Send {
    /// Returns the lane the write is of; `None`: of none.
    fn lane(&self) -> Option<Lane>;

    /// Runs the body and keeps its value. What it returns is the body's own error.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Result<()>>;

    /// Tells the caller: the value if all went well, otherwise why not.
    fn finish(self: Box<Self>, outcome: Result<()>);
}

/// What a writer is asked for.
pub(super) enum Work {
    /// Run this with whatever else waits, and commit.
    Write(Box<dyn Job>),
    /// Finish what waits, close, and say so.
    Close(oneshot::Sender<()>),
}

/// How often a body may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// Once: the engine has no reason to undo a transaction that went well so far.
    Once,
    /// Again, if the transaction was undone through no fault of the body: each run gets a clone.
    Again,
}

/// A write with its types.
struct Typed<T, F> {
    body: Option<F>,
    lane: Option<Lane>,
    runs: Runs,
    value: Option<T>,
    answer: oneshot::Sender<Result<T>>,
}

/// Makes a job of a body, and the place where its caller is told.
pub(super) fn job<T, F>(
    body: F,
    lane: Option<Lane>,
    runs: Runs,
) -> (Box<dyn Job>, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
{
    let (answer, result) = oneshot::channel();
    (Box::new(Typed { body: Some(body), lane, runs, value: None, answer }), result)
}

impl<T, F> Job for Typed<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
{
    fn lane(&self) -> Option<Lane> {
        self.lane
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, Result<()>> {
        let body = match self.runs {
            Runs::Once => self.body.take(),
            Runs::Again => self.body.clone(),
        };
        let value = &mut self.value;
        Box::pin(async move {
            *value = None;
            let body = body.ok_or_else(|| StorageError::Failed("a write ran twice".to_owned()))?;
            let ran = std::panic::AssertUnwindSafe(body(tx)).catch_unwind().await;
            let panicked = |_| Err(StorageError::Failed("a write panicked".to_owned()));
            *value = Some(ran.unwrap_or_else(panicked)?);
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>, outcome: Result<()>) {
        let lost = || StorageError::Failed("a write left no value".to_owned());
        let result = outcome.and_then(|()| self.value.take().ok_or_else(lost));
        // Whoever does not wait any more need not know.
        let _ = self.answer.send(result);
    }
}
