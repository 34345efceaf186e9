//! Makes sure that a process that believes it is the only one of its database is right: it holds
//! the database's lock on a connection of its own, and is an incarnation that ended all others.
//!
//! The lock tells a second process not to start. The incarnation is what is safe: should the lock be
//! lost while this process cannot see it, whoever starts next ends our incarnation, and nothing we
//! write is committed from then on. On SQLite the lock file does all this.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use colonnade_storage::{Database, Held, Lock, ownership};
use tokio_util::sync::CancellationToken;

use crate::start_error::StartError;

/// How long a start waits for the lock: the server may not have noticed yet that the process that
/// held it is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the lock is asked for meanwhile.
const PAUSE: Duration = Duration::from_millis(50);
/// How often it is looked at later.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The proof that this process is alone, kept up until [`SingleProcess::end`].
pub(crate) struct SingleProcess {
    stop: CancellationToken,
    watch: tokio::task::JoinHandle<()>,
    /// Another process has the database.
    lost: Arc<AtomicBool>,
}

impl SingleProcess {
    /// Waits until no other process uses the database, and ends whatever others left under way.
    ///
    /// # Errors
    /// [`StartError::InUse`] when another process goes on using it.
    pub(crate) async fn begin(db: &Database, now_ms: i64) -> Result<Self, StartError> {
        let held = hold(db, false).await?;
        let name = format!("alone, process {}", std::process::id());
        let incarnation = ownership::register_alone(db, name, now_ms).await?;
        let stop = CancellationToken::new();
        let lost = Arc::new(AtomicBool::new(false));
        let (stopped, flag) = (stop.clone(), Arc::clone(&lost));
        let watch = tokio::spawn(watch(db.clone(), incarnation, held, stopped, flag));
        Ok(Self { stop, watch, lost })
    }

    /// Tells whether another process took the database over: nothing of ours is stored any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Lets go of the database.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        let _ended = self.watch.await;
    }
}

/// Takes the lock of the database, alone or beside others of a cluster.
///
/// # Errors
/// [`StartError::InUse`] when somebody else goes on holding it otherwise.
pub(crate) async fn hold(db: &Database, shared: bool) -> Result<Held, StartError> {
    let begun = tokio::time::Instant::now();
    loop {
        if let Some(held) = db.hold(Lock::Database, shared).await? {
            return Ok(held);
        }
        if begun.elapsed() > PATIENCE {
            return Err(StartError::InUse);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes the lock again whenever its connection broke, and notices if somebody was faster.
async fn watch(
    db: Database,
    incarnation: i64,
    held: Held,
    stop: CancellationToken,
    lost: Arc<AtomicBool>,
) {
    let mut held = Some(held);
    let look = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Some(lock) = &held
                && lock.is_held().await
            {
                continue;
            }
            // None may be our own session that the server has not given up yet.
            held = db.hold(Lock::Database, false).await.ok().flatten();
            let ended = matches!(ownership::lives(&db, incarnation).await, Ok(false));
            if ended && !lost.swap(true, Ordering::AcqRel) {
                tracing::error!("another process uses this database now: stop one of them");
            }
        }
    };
    let _stopped: Option<()> = stop.run_until_cancelled(look).await;
    if let Some(lock) = held {
        lock.release().await;
    }
}
