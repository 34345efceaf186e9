//! What is thrown away from time to time: transaction ids nobody repeats any more, files that a crash left
//! without an upload, the keys of deleted backups, and rows that later ones make void. Rows go piece by
//! piece, each in a transaction of its own, so that others write in between. Each chore is done by one process of a deployment at a time, the
//! owner of its slot; when that one dies the next begins anew. Chores may be done twice.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_replication::slots::{Duty, Right};
use colonnade_rooms::error::Result;
use colonnade_storage::{
    delivery::jobs as table,
    keys::device_lists,
    ownership::pools::{BACKGROUND, MEDIA},
    rooms::{client_txns, unread},
};

use crate::services::Services;

/// How long after the start the first round is, so that starting stays quick.
const FIRST: Duration = Duration::from_secs(5 * 60);
/// The time between the ends of two rounds.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// The time before another attempt after one failed.
const RETRY: Duration = Duration::from_secs(60);
/// How long a transaction id is remembered, in milliseconds: a client that repeats a request later
/// than this has forgotten it itself.
const TXN_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;

/// Rows looked at, or deleted, in one piece: a few milliseconds of the lane.
const PIECE_ROWS: i64 = 1_000;

/// A chore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackgroundJob {
    ForgetTransactions,
    SweepMedia,
    EmptyBackups,
    ForgetRepeatedChanges,
    ForgetSpentExceptions,
}

impl BackgroundJob {
    const ALL: [Self; 5] = [
        Self::ForgetTransactions,
        Self::SweepMedia,
        Self::EmptyBackups,
        Self::ForgetRepeatedChanges,
        Self::ForgetSpentExceptions,
    ];

    /// What it is called in the database and in the log.
    fn name(self) -> &'static str {
        match self {
            Self::ForgetTransactions => "forget_transactions",
            Self::SweepMedia => "sweep_media",
            Self::EmptyBackups => "empty_backups",
            Self::ForgetRepeatedChanges => "forget_repeated_changes",
            Self::ForgetSpentExceptions => "forget_spent_exceptions",
        }
    }

    /// Whose duty it is. Files are where the workers of media are.
    pub(crate) fn duty(self) -> Duty {
        match self {
            Self::SweepMedia => Duty::of(MEDIA, self.name()),
            _ => Duty::of(BACKGROUND, self.name()),
        }
    }
}

/// Keeps house as long as the services live.
pub(crate) fn start(services: &Arc<Services>) {
    for chore in BackgroundJob::ALL {
        tokio::spawn(keep(Arc::downgrade(services), chore));
    }
}

async fn keep(services: Weak<Services>, chore: BackgroundJob) {
    tokio::time::sleep(FIRST).await;
    loop {
        let Some(alive) = services.upgrade() else { return };
        let slots = Arc::clone(&alive.context.slots);
        let epoch = slots.map().epoch;
        let pause = alive.attend(chore).await.unwrap_or_else(|error| {
            let name = chore.name();
            tracing::warn!(chore = name, %error, "a chore is left undone; it is tried again later");
            RETRY
        });
        drop(alive);
        // Whoever owned it may be gone.
        slots.changed(epoch, pause).await;
    }
}

impl Services {
    /// Does a chore if it is due and ours, and returns when to look again.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub(crate) async fn attend(&self, chore: BackgroundJob) -> Result<Duration> {
        let Some(right) = self.context.slots.right(chore.duty()) else { return Ok(EVERY) };
        let done_ts = table::done_ts(&self.context.db, chore.name()).await?;
        // Negative after a clock went back: then nobody knows, and it is done.
        if let Ok(passed) = u64::try_from(self.context.now_ms().saturating_sub(done_ts))
            && let Some(left) = EVERY.checked_sub(Duration::from_millis(passed))
        {
            return Ok(left);
        }
        let done = self.carry_out(chore, right).await;
        if done.is_err() && self.context.slots.right(chore.duty()) != Some(right) {
            tracing::info!(chore = chore.name(), "another process does this chore now");
            return Ok(EVERY);
        }
        done.map(|()| EVERY)
    }

    async fn carry_out(&self, chore: BackgroundJob, right: Right) -> Result<()> {
        let db = &self.context.db;
        let gone = match chore {
            BackgroundJob::ForgetTransactions => self.forget_transactions(right).await?,
            BackgroundJob::SweepMedia => {
                let is_ours = || self.context.slots.right(chore.duty()) == Some(right);
                self.media.sweep(is_ours).await? as u64
            }
            BackgroundJob::EmptyBackups => self.key_backup.empty(None, Some(right)).await?,
            BackgroundJob::ForgetRepeatedChanges => self.forget_repeated_changes(right).await?,
            BackgroundJob::ForgetSpentExceptions => self.forget_spent_exceptions(right).await?,
        };
        let (name, now_ms) = (chore.name(), self.context.now_ms());
        let note = db.write(move |tx| {
            Box::pin(async move {
                right.fence(tx).await?;
                table::done(tx, name, now_ms).await
            })
        });
        note.await?;
        tracing::info!(chore = name, gone, "kept house");
        Ok(())
    }

    async fn forget_transactions(&self, right: Right) -> Result<u64> {
        let before_ts = self.context.now_ms() - TXN_LIFETIME_MS;
        let mut gone = 0;
        loop {
            let prune = self.context.db.write(move |tx| {
                Box::pin(async move {
                    right.fence(tx).await?;
                    client_txns::prune(tx, before_ts, PIECE_ROWS).await
                })
            });
            let piece = prune.await?;
            gone += piece;
            if piece < PIECE_ROWS.unsigned_abs() {
                return Ok(gone);
            }
        }
    }

    /// Of changes of one user's keys, told to the same, the newest is enough: whoever has not heard of the
    /// others has not heard of it either.
    async fn forget_repeated_changes(&self, right: Right) -> Result<u64> {
        let db = &self.context.db;
        let (mut after, mut gone) = (0, 0);
        while let Some((last, repeated)) = device_lists::repeated(db, after, PIECE_ROWS).await? {
            after = last;
            gone += repeated.len() as u64;
            if repeated.is_empty() {
                continue;
            }
            let forget = db.write(move |tx| {
                Box::pin(async move {
                    right.fence(tx).await?;
                    device_lists::forget(tx, &repeated).await
                })
            });
            forget.await?;
        }
        Ok(gone)
    }

    /// What a user has read is not counted again.
    async fn forget_spent_exceptions(&self, right: Right) -> Result<u64> {
        let db = &self.context.db;
        let (mut after, mut gone) = ((0, 0, 0), 0);
        while let Some((last, spent)) = unread::spent(db, after, PIECE_ROWS).await? {
            after = last;
            gone += spent.len() as u64;
            if spent.is_empty() {
                continue;
            }
            let forget = db.write(move |tx| {
                Box::pin(async move {
                    right.fence(tx).await?;
                    unread::forget(tx, &spent).await
                })
            });
            forget.await?;
        }
        Ok(gone)
    }
}

#[cfg(test)]
mod tests;
