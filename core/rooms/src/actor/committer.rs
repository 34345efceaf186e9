//! The committer: takes everything that rooms have ready and writes it in one transaction.
//!
//! If that fails, it is written room by room, so that one room's trouble is its own. Whoever asked
//! is answered after the commit, with the positions of the new events.

use std::sync::Arc;

use colonnade_replication::Slots;
use colonnade_storage::{
    Database, Lane, StorageError,
    rooms::persist::{self, Batch, Persisted},
};
use tokio::sync::{mpsc, oneshot};

/// Events written in one transaction at most: bounds how long the first waits for the last.
const EVENTS_MAX: usize = 256;
/// Rooms that may wait to be written; beyond it they wait in turn.
const WAITING_MAX: usize = 1_024;

/// What one room wants written, and whom to tell.
struct Job {
    batch: Arc<Batch>,
    done: oneshot::Sender<Result<Persisted, StorageError>>,
}

/// The way to the committer.
#[derive(Clone)]
pub(crate) struct Committer(mpsc::Sender<Job>);

impl Committer {
    /// Starts the committer's loop; it ends when the last way to it is gone.
    pub(crate) fn start(db: Database, slots: Arc<Slots>) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        tokio::spawn(run(db, slots, receiver));
        Self(sender)
    }

    /// Writes a batch; returns once it is committed.
    ///
    /// # Errors
    /// When it could not be written: then nothing of it is.
    pub(crate) async fn commit(&self, batch: Arc<Batch>) -> Result<Persisted, StorageError> {
        let gone = || StorageError::Unavailable("the server is being stopped".to_owned());
        let (done, answer) = oneshot::channel();
        let job = Job { batch, done };
        self.0.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(db: Database, slots: Arc<Slots>, mut waiting: mpsc::Receiver<Job>) {
    while let Some(first) = waiting.recv().await {
        let mut events = first.batch.events.len();
        let mut jobs = vec![first];
        while events < EVENTS_MAX {
            let Ok(job) = waiting.try_recv() else { break };
            events += job.batch.events.len();
            jobs.push(job);
        }
        commit_all(&db, &slots, jobs).await;
    }
}

async fn commit_all(db: &Database, slots: &Slots, jobs: Vec<Job>) {
    let batches = jobs.iter().map(|job| Arc::clone(&job.batch)).collect();
    match write(db, slots, batches).await {
        Ok(persisted) => {
            for (job, persisted) in jobs.into_iter().zip(persisted) {
                let _ = job.done.send(Ok(persisted));
            }
        }
        Err(error) if jobs.len() == 1 => {
            for job in jobs {
                let _ = job.done.send(Err(again(&error)));
            }
        }
        Err(error) => {
            tracing::warn!(%error, rooms = jobs.len(), "writing room by room after a failure");
            for job in jobs {
                let written = write(db, slots, vec![Arc::clone(&job.batch)]).await;
                let mine = written.and_then(|mut persisted| {
                    let lost = || StorageError::Failed("no positions came back".to_owned());
                    persisted.pop().ok_or_else(lost)
                });
                let _ = job.done.send(mine);
            }
        }
    }
}

async fn write(
    db: &Database,
    slots: &Slots,
    batches: Vec<Arc<Batch>>,
) -> Result<Vec<Persisted>, StorageError> {
    let ownership = slots.ownership();
    db.write_in(Lane::Events, move |tx| {
        Box::pin(async move { persist::write(tx, ownership, &batches).await })
    })
    .await
}

/// Says the same error once more.
fn again(error: &StorageError) -> StorageError {
    match error {
        StorageError::Conflict(why) => StorageError::Conflict(why.clone()),
        StorageError::Unavailable(why) => StorageError::Unavailable(why.clone()),
        StorageError::Fenced(why) => StorageError::Fenced(why.clone()),
        StorageError::Full(full) => StorageError::Full(full.clone()),
        StorageError::Dangling(alias) => StorageError::Dangling(alias.clone()),
        StorageError::Failed(why) => StorageError::Failed(why.clone()),
        other => StorageError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use colonnade_storage::quota::{Bound, Full};

    use super::*;

    #[test]
    fn who_wrote_together_hears_the_same_error() {
        let bound = Bound { setting: "limits.rooms_max", max: 3 };
        for error in [
            StorageError::Conflict("a".to_owned()),
            StorageError::Unavailable("b".to_owned()),
            StorageError::Fenced("c".to_owned()),
            StorageError::Full(Full { what: "rooms", bound, in_bytes: false }),
            StorageError::Dangling("#d:e".to_owned()),
            StorageError::Failed("f".to_owned()),
        ] {
            assert_eq!(format!("{:?}", again(&error)), format!("{error:?}"));
        }
        // What nobody does anything about keeps its text alone.
        let corrupt = again(&StorageError::corrupt("events", "codec", 1, "unknown"));
        assert!(matches!(&corrupt, StorageError::Failed(why) if why.contains("unknown")));
    }
}
