//! What is thrown away from time to time: transaction ids nobody repeats any more, files that a crash left
//! without an upload, the keys of deleted backups, and rows that later ones make void. Rows go piece by
//! piece, each in a transaction of its own, so that others write in between. Which process does a job, and when,
//! is decided by [`colonnade_delivery::jobs`].

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_delivery::jobs::{LeasedJob, RETRY};
use colonnade_replication::slots::{Duty, Right};
use colonnade_rooms::error::Result;
use colonnade_storage::{
    federation::{entering, inbound_messages, outbox, transactions},
    keys::device_lists,
    ownership::pools::{BACKGROUND, MEDIA},
    rooms::{client_txns, unread},
};

use crate::services::Services;

/// How long after the start the first round is, so that starting stays quick.
const FIRST: Duration = Duration::from_secs(5 * 60);
/// How long a transaction id is remembered, in milliseconds: a client that repeats a request later
/// than this has forgotten it itself.
const TXN_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;
/// How long a transaction of another server is remembered, in milliseconds: who could not send it for longer
/// makes another one.
const INBOUND_LIFETIME_MS: i64 = 7 * 24 * 60 * 60 * 1_000;
/// How long a message waits for a device of another server, in milliseconds: by then clients have begun anew.
const OUTBOX_LIFETIME_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Rows looked at, or deleted, in one piece: a few milliseconds of the lane.
const PIECE_ROWS: i64 = 1_000;

/// A job of the background.
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

    /// What stands for it in the table of jobs. Files are where the workers of media are.
    fn job(self) -> LeasedJob {
        let role = match self {
            Self::SweepMedia => MEDIA,
            _ => BACKGROUND,
        };
        LeasedJob { name: self.name(), duty: Duty::of(role, self.name()) }
    }
}

/// Keeps house as long as the services live.
pub(crate) fn start(services: &Arc<Services>) {
    for job in BackgroundJob::ALL {
        tokio::spawn(keep(Arc::downgrade(services), job));
    }
}

async fn keep(services: Weak<Services>, job: BackgroundJob) {
    tokio::time::sleep(FIRST).await;
    loop {
        let Some(alive) = services.upgrade() else { return };
        let slots = Arc::clone(&alive.context.slots);
        let epoch = slots.map().epoch;
        let pause = alive.attend(job).await.unwrap_or_else(|error| {
            let job = job.name();
            tracing::warn!(job, %error, "a background job is left undone; it is tried again later");
            RETRY
        });
        drop(alive);
        // Whoever owned it may be gone.
        slots.changed(epoch, pause).await;
    }
}

impl Services {
    /// Does a job if it is due and ours, and returns when to look again.
    ///
    /// # Errors
    /// When the database or the disk fails.
    pub(crate) async fn attend(&self, job: BackgroundJob) -> Result<Duration> {
        job.job().attend(&self.context, |right| self.carry_out(job, right)).await
    }

    async fn carry_out(&self, job: BackgroundJob, right: Right) -> Result<u64> {
        match job {
            BackgroundJob::ForgetTransactions => self.forget_transactions(right).await,
            BackgroundJob::SweepMedia => {
                let is_ours = || job.job().right(&self.context) == Some(right);
                Ok(self.media.sweep(is_ours).await? as u64)
            }
            BackgroundJob::EmptyBackups => self.key_backup.empty(None, Some(right)).await,
            BackgroundJob::ForgetRepeatedChanges => self.forget_repeated_changes(right).await,
            BackgroundJob::ForgetSpentExceptions => self.forget_spent_exceptions(right).await,
        }
    }

    async fn forget_transactions(&self, right: Right) -> Result<u64> {
        let now_ms = self.context.now_ms();
        let (before_ts, inbound_ts) = (now_ms - TXN_LIFETIME_MS, now_ms - INBOUND_LIFETIME_MS);
        let outbox_ts = now_ms - OUTBOX_LIFETIME_MS;
        let mut gone = 0;
        loop {
            let prune = self.context.db.write(move |tx| {
                Box::pin(async move {
                    right.fence(tx).await?;
                    let ours = client_txns::prune(tx, before_ts, PIECE_ROWS).await?;
                    let theirs = transactions::prune(tx, inbound_ts, PIECE_ROWS).await?;
                    let messages = inbound_messages::prune(tx, inbound_ts, PIECE_ROWS).await?;
                    let given_up = outbox::prune(tx, outbox_ts, PIECE_ROWS).await?;
                    let early = entering::prune(tx, now_ms, PIECE_ROWS).await?;
                    Ok(ours.max(theirs).max(messages).max(given_up).max(early))
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
