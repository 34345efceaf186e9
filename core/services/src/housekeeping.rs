//! What is thrown away from time to time: transaction ids nobody repeats any more, and files that a
//! crash left without an upload. Each chore may run at any time, twice, and in several processes.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use colonnade_storage::client_txns;

use crate::{Result, Services};

/// How long after the start the first round is, so that starting stays quick.
const FIRST: Duration = Duration::from_secs(5 * 60);
/// The time between two rounds.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// How long a transaction id is remembered, in milliseconds: a client that repeats a request later
/// than this has forgotten it itself.
const TXN_LIFETIME_MS: i64 = 24 * 60 * 60 * 1_000;

/// Keeps house as long as the services live.
pub(crate) fn start(services: &Arc<Services>) {
    let services = Arc::downgrade(services);
    tokio::spawn(async move {
        tokio::time::sleep(FIRST).await;
        while keep_house(&services).await {
            tokio::time::sleep(EVERY).await;
        }
    });
}

/// Does one round; false when the services are gone.
async fn keep_house(services: &Weak<Services>) -> bool {
    let Some(services) = services.upgrade() else { return false };
    if let Err(error) = services.keep_house().await {
        tracing::warn!(%error, "cannot keep house; it is tried again later");
    }
    true
}

impl Services {
    /// Throws away what nobody needs any more.
    ///
    /// # Errors
    /// When the database or the media folder fails.
    pub async fn keep_house(&self) -> Result<()> {
        let before_ts = self.context.now_ms() - TXN_LIFETIME_MS;
        let pruned = self.context.db.write(move |tx| Box::pin(client_txns::prune(tx, before_ts)));
        let pruned = pruned.await?;
        let swept = self.media.sweep().await?;
        tracing::info!(pruned, swept, "kept house");
        Ok(())
    }
}
