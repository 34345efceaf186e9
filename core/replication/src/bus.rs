//! The bus: carries "this stream has grown" from one process to the others. May lose, repeat and
//! reorder; [`Streams`](crate::Streams) notices by `prev` and looks into the database.

use std::sync::Arc;

use colonnade_model::stream::StreamAdvance;
use tokio::sync::broadcast;

/// Messages a slow reader may fall behind by before it has to look into the database instead.
pub(crate) const BACKLOG_MAX: usize = 4_096;

/// Carries advances between processes. Whoever publishes may hear himself.
pub trait Bus: Send + Sync + 'static {
    /// Sends an advance to all processes. Never blocks.
    fn publish(&self, advance: Arc<StreamAdvance>);

    /// Starts to listen: everything that comes from now on.
    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>>;

    /// Sends what lives in memory only, and is lost when it is lost. Never blocks.
    fn send_ephemeral(&self, _: Arc<[u8]>) {}

    /// Starts to listen to ephemeral messages; `None` when none are carried.
    fn ephemeral_messages(&self) -> Option<broadcast::Receiver<Arc<[u8]>>> {
        None
    }

    /// Tells whether messages arrive. While they do not, readers ask the database often.
    fn is_healthy(&self) -> bool;
}

/// A bus within one process: joins several [`Streams`](crate::Streams) there, in tests mostly. A
/// process that is alone needs none.
pub struct InProcess(broadcast::Sender<Arc<StreamAdvance>>, broadcast::Sender<Arc<[u8]>>);

impl Default for InProcess {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG_MAX), broadcast::Sender::new(BACKLOG_MAX))
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

    fn send_ephemeral(&self, text: Arc<[u8]>) {
        let _ = self.1.send(text);
    }

    fn ephemeral_messages(&self) -> Option<broadcast::Receiver<Arc<[u8]>>> {
        Some(self.1.subscribe())
    }

    fn is_healthy(&self) -> bool {
        true
    }
}

/// A bus that carries nothing, for processes over one database without anything between them: each
/// asks the database often instead.
pub struct Silent(broadcast::Sender<Arc<StreamAdvance>>);

impl Default for Silent {
    fn default() -> Self {
        Self(broadcast::Sender::new(1))
    }
}

impl Bus for Silent {
    fn publish(&self, _: Arc<StreamAdvance>) {}

    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.0.subscribe()
    }

    fn is_healthy(&self) -> bool {
        false
    }
}
