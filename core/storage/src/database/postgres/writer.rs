//! The writer of one lane: runs what waits in one transaction, each write between savepoints, and
//! tells the callers after the commit.
//!
//! A group that was undone through no fault of its writes (the server restarted, another process
//! was in the way) runs again, write by write; bodies are cloned for that. Whose commit got no
//! answer is not told anything until the database says what became of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use colonnade_model::stream::StreamAdvance;
use tokio::sync::{mpsc, oneshot};

use super::{
    message::message,
    session::{Committed, Session},
};
use crate::{
    CommitListener,
    database::{
        Tx,
        job::{Job, Work},
        stats::Stats,
        tx::Connection,
    },
    error::{Result, StorageError},
};

/// Writes that share a commit at most. Each is a subtransaction, and PostgreSQL is slower for
/// everybody once a transaction has more than 64 of them.
const BATCH_MAX: usize = 60;
/// Attempts to write something before its caller is told that the database is not available.
const ATTEMPTS_MAX: u32 = 6;
/// Pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(5);

/// A write with what it came to by itself.
struct Running {
    job: Box<dyn Job>,
    failed: Option<StorageError>,
}

/// Writes what waits until told to close and nothing waits any more.
pub(super) async fn run(
    mut session: Session,
    mut work: mpsc::Receiver<Work>,
    listener: Arc<dyn CommitListener>,
    stats: Arc<Stats>,
) {
    let mut closing: Vec<oneshot::Sender<()>> = Vec::new();
    while let Some(first) = work.recv().await {
        let mut group = Vec::new();
        let mut next = Some(first);
        while let Some(one) = next.take() {
            match one {
                Work::Write(job) => group.push(Running { job, failed: None }),
                Work::Close(tell) => closing.push(tell),
            }
            if group.len() < BATCH_MAX {
                next = work.try_recv().ok();
            }
        }
        if !closing.is_empty() {
            work.close();
        }
        if !group.is_empty() {
            write_all(&mut session, group, listener.as_ref(), &stats).await;
        }
    }
    session.close().await;
    for tell in closing {
        let _ = tell.send(());
    }
}

/// Writes a group; what is undone through no fault of its own is tried again, one by one.
async fn write_all(
    session: &mut Session,
    group: Vec<Running>,
    listener: &dyn CommitListener,
    stats: &Stats,
) {
    let alone = group.len() == 1;
    let Some((group, error)) = write(session, group, listener, stats).await else { return };
    tracing::debug!(%error, writes = group.len(), "a group of writes runs again");
    for one in group {
        let mut one = Some(one);
        let mut why = again(&error);
        let mut pause = PAUSE;
        for _ in u32::from(alone)..ATTEMPTS_MAX {
            // Once is enough, for all of them.
            if session.is_away() {
                break;
            }
            let Some(running) = one.take() else { break };
            let Some((mut back, error)) = write(session, vec![running], listener, stats).await
            else {
                break;
            };
            one = back.pop();
            why = error;
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        if let Some(running) = one {
            running.job.finish(Err(StorageError::Unavailable(why.to_string())));
        }
    }
}

/// Tries to write a group. Whoever is not among those returned has been told; the others were
/// undone and may run again.
async fn write(
    session: &mut Session,
    mut group: Vec<Running>,
    listener: &dyn CommitListener,
    stats: &Stats,
) -> Option<(Vec<Running>, StorageError)> {
    let begun = Instant::now();
    let tx = match run_all(session, &mut group).await {
        Ok(tx) => tx,
        Err(StorageError::Fenced(why)) => {
            for running in group {
                running.job.finish(Err(StorageError::Fenced(why.clone())));
            }
            return None;
        }
        Err(error) => return Some((group, error)),
    };
    let sealed = match tx {
        None => Vec::new(),
        Some(tx) => match session.commit(tx).await {
            Committed::Yes(sealed) => sealed,
            Committed::No(error) => return Some((group, error)),
            Committed::Unknown(sealed) => {
                if !session.find_out().await {
                    let why = "the connection broke off during a commit".to_owned();
                    return Some((group, StorageError::Unavailable(why)));
                }
                sealed
            }
        },
    };
    stats.committed(group.len(), begun.elapsed());
    announce(sealed, group, listener);
    None
}

/// Tells the listener and the callers of a commit.
fn announce(sealed: Vec<StreamAdvance>, group: Vec<Running>, listener: &dyn CommitListener) {
    for advance in sealed {
        listener.committed(advance);
    }
    for running in group {
        running.job.finish(running.failed.map_or(Ok(()), Err));
    }
}

/// Runs the writes of a group in one transaction and returns it, ready to be committed; `None` when
/// none of them went well, and so there is nothing to commit.
async fn run_all(session: &mut Session, group: &mut [Running]) -> Result<Option<Tx>> {
    let shared = group.len() > 1;
    let mut tx = session.begin(shared).await?;
    let mut went_well = 0;
    let last = group.len() - 1;
    for (n, running) in group.iter_mut().enumerate() {
        let before = tx.mark();
        running.failed = None;
        let mut between = match running.job.run(&mut tx).await {
            Ok(()) => {
                went_well += 1;
                "RELEASE job".to_owned()
            }
            Err(contended @ StorageError::Contended(_)) => {
                let _undone_by_the_server_otherwise = session.undo(tx).await;
                return Err(contended);
            }
            Err(error) => {
                running.failed = Some(error);
                tx.back_to(before);
                "ROLLBACK TO job; RELEASE job".to_owned()
            }
        };
        // One that is alone has no savepoint: it is undone as a whole.
        if shared {
            if n < last {
                between.push_str("; SAVEPOINT job");
            }
            step(&mut tx, between).await?;
        }
    }
    if went_well == 0 {
        session.undo(tx).await?;
        return Ok(None);
    }
    Ok(Some(tx))
}

/// Goes from one write to the next. An error here is the connection's, not a write's.
async fn step(tx: &mut Tx, sql: String) -> Result<()> {
    let Connection::Postgres(connection) = &mut tx.connection else { return Err(gone()) };
    message(connection, sql).await.map(|_| ())
}

fn gone() -> StorageError {
    StorageError::Failed("the writer lost its connection".to_owned())
}

/// Says the same error once more.
fn again(error: &StorageError) -> StorageError {
    StorageError::Unavailable(error.to_string())
}
