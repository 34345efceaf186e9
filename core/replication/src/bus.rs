//! The bus: carries "this stream has grown" from writers to readers. May lose, repeat and reorder;
//! readers notice by `prev` and look into the database.

use std::sync::Arc;

use colonnade_model::stream::StreamAdvance;
use tokio::sync::broadcast;

/// Messages a slow reader may fall behind by before it has to look into the database instead.
const BACKLOG_MAX: usize = 4_096;

/// Carries advances to every subscriber.
pub trait Bus: Send + Sync + 'static {
    /// Sends an advance to all subscribers. Never blocks.
    fn publish(&self, advance: Arc<StreamAdvance>);

    /// Starts to listen: everything published from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>>;
}

/// The bus of a single process: a ring in memory.
pub struct InProcess(broadcast::Sender<Arc<StreamAdvance>>);

impl Default for InProcess {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG_MAX))
    }
}

impl Bus for InProcess {
    fn publish(&self, advance: Arc<StreamAdvance>) {
        // An error only says that nobody listens.
        let _ = self.0.send(advance);
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.0.subscribe()
    }
}
