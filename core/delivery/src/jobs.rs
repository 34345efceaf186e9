//! Background jobs: each is done by one process of a deployment at a time, the owner of its slot; when that
//! one dies the next begins anew. So a job may be done twice, and its writes are fenced by the right it is
//! done with. When it was done last stands in the database: a restart does not begin anew.

use std::{future::Future, time::Duration};

use colonnade_replication::slots::{Duty, Right};
use colonnade_rooms::{Context, Result};
use colonnade_storage::delivery::jobs as table;

/// The time between the ends of two rounds.
pub const EVERY: Duration = Duration::from_secs(60 * 60);
/// The time before another attempt after one failed.
pub const RETRY: Duration = Duration::from_secs(60);

/// A job of the background.
#[derive(Debug, Clone, Copy)]
pub struct LeasedJob {
    /// What it is called in the database and in the log.
    pub name: &'static str,
    /// Whose duty it is.
    pub duty: Duty,
}

impl LeasedJob {
    /// Returns the right to do it, if this process has it.
    pub fn right(&self, context: &Context) -> Option<Right> {
        context.slots.right(self.duty)
    }

    /// Does the job if it is due and ours, and returns when to look again. `work` does it by the right it
    /// is given, and returns how many rows or files went.
    ///
    /// # Errors
    /// When it failed, and no other process has the right now.
    pub async fn attend<F>(
        &self,
        context: &Context,
        work: impl FnOnce(Right) -> F,
    ) -> Result<Duration>
    where
        F: Future<Output = Result<u64>>,
    {
        let Some(right) = self.right(context) else { return Ok(EVERY) };
        let done_ts = table::done_ts(&context.db, self.name).await?;
        // Negative after a clock went back: then nobody knows, and it is done.
        if let Ok(passed) = u64::try_from(context.now_ms().saturating_sub(done_ts))
            && let Some(left) = EVERY.checked_sub(Duration::from_millis(passed))
        {
            return Ok(left);
        }
        let done = match work(right).await {
            Ok(gone) => self.note_done(context, right, gone).await,
            Err(error) => Err(error),
        };
        if done.is_err() && self.right(context) != Some(right) {
            tracing::info!(job = self.name, "another process does this background job now");
            return Ok(EVERY);
        }
        done.map(|()| EVERY)
    }

    async fn note_done(&self, context: &Context, right: Right, gone: u64) -> Result<()> {
        let (name, now_ms) = (self.name, context.now_ms());
        let note = context.db.write(move |tx| {
            Box::pin(async move {
                right.fence(tx).await?;
                table::done(tx, name, now_ms).await
            })
        });
        note.await?;
        tracing::info!(job = name, gone, "a background job is done");
        Ok(())
    }
}

#[cfg(test)]
mod tests;
