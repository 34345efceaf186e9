//! Who hears of commits.

use colonnade_model::stream::StreamAdvance;

/// Hears of every commit that advanced a stream, in order, after it is durable.
pub trait CommitListener: Send + Sync + 'static {
    /// Takes note of an advance. Must not block.
    fn committed(&self, advance: StreamAdvance);
}

/// Whoever opens a database to look, and tells nobody.
pub(crate) struct NoListener;

impl CommitListener for NoListener {
    fn committed(&self, _: StreamAdvance) {}
}
