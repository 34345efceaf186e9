//! Closes gaps: what the bus did not bring is read from the database.

use std::{sync::Arc, time::Duration};

use colonnade_model::stream::{StreamAdvance, Touch};
use colonnade_storage::{Database, error::Result, touches};
use tokio::{sync::watch, time::Instant};

use super::{DURABLE, Streams};

/// How long a message that is missing may still be on its way.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often the database is asked while the bus works: for what was lost without a successor.
const POLL_HEALTHY: Duration = Duration::from_secs(5);
/// How often it is asked while the bus does not.
const POLL_ALONE: Duration = Duration::from_millis(100);
/// How long to wait after the database failed.
const RETRY: Duration = Duration::from_millis(500);
/// Rows of one gap that are read; in a larger one anybody may be concerned.
const ROWS_MAX: i64 = 5_000;

impl Streams {
    /// Closes gaps from now on, until [`Streams::stop`].
    pub(super) fn close_gaps(self: &Arc<Self>, db: &Database) {
        tokio::spawn(close_all(Arc::clone(self), db.clone(), self.stopped.subscribe()));
    }
}

/// Closes gaps as they are noticed, and looks for those nobody noticed, until told to stop.
async fn close_all(streams: Arc<Streams>, db: Database, mut stopped: watch::Receiver<bool>) {
    let mut failed = false;
    let mut looked = Instant::now();
    loop {
        let next = async {
            if failed {
                tokio::time::sleep(RETRY).await;
                return true;
            }
            tokio::select! {
                // First: what is due must not starve under gaps that close by themselves.
                biased;
                () = look_again(&streams, looked) => true,
                () = streams.gap.notified() => {
                    tokio::time::sleep(PATIENCE).await;
                    false
                }
            }
        };
        let due = tokio::select! {
            biased;
            due = next => due,
            _ = stopped.wait_for(|stopped| *stopped) => return,
        };
        // Woken by a gap that closed by itself: nothing to read.
        if !due && !streams.has_gap() {
            continue;
        }
        looked = Instant::now();
        let closed = close(&streams, &db).await;
        if let Err(error) = &closed
            && !failed
        {
            tracing::warn!(%error, "cannot read how far the streams are; trying again");
        }
        failed = closed.is_err();
    }
}

/// Waits until it is time to look again. The bus may fail at any moment, so this never sleeps
/// longer than it would without one; and when it comes back, what was said meanwhile is missing.
async fn look_again(streams: &Streams, looked: Instant) {
    let Some(bus) = streams.bus.get() else { return std::future::pending().await };
    let mut was_healthy = bus.is_healthy();
    loop {
        let healthy = bus.is_healthy();
        let every = if healthy { POLL_HEALTHY } else { POLL_ALONE };
        if looked.elapsed() >= every || (healthy && !was_healthy) {
            return;
        }
        was_healthy = healthy;
        tokio::time::sleep(POLL_ALONE).await;
    }
}

/// Reads and tells whatever is in the database above the positions reached.
pub(super) async fn close(streams: &Arc<Streams>, db: &Database) -> Result<()> {
    let horizons = colonnade_storage::streams::horizons(db).await?;
    for stream in DURABLE {
        let (prev, upto) = (streams.position(stream), horizons.get(stream));
        if upto <= prev {
            continue;
        }
        let touched = touches::between(db, stream, prev, upto, ROWS_MAX).await?;
        let touched = touched.unwrap_or_else(|| vec![(Touch::Anybody, upto)]);
        tracing::debug!(stream = stream.name(), prev, upto, "closing a gap");
        streams.take(Arc::new(StreamAdvance { stream, prev, upto, touched }));
    }
    Ok(())
}
