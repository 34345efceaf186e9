//! A chunk of a room's timeline, and the range of positions its state is told for.

use colonnade_model::{stream::Position, token::TimelineToken};
use serde_json::value::RawValue;

use super::response::TimelinePart;
use crate::timeline::Shown;

/// A chunk of a room's timeline, before it is rendered.
pub(super) struct TimelineChunk {
    /// The events, oldest first.
    pub(super) events: Vec<Shown>,
    /// The same as the client wants them.
    pub(super) json: Vec<Box<RawValue>>,
    /// More happened since the token.
    pub(super) limited: bool,
    /// Where to read further back.
    pub(super) prev_batch: Option<TimelineToken>,
}

impl From<TimelineChunk> for TimelinePart {
    fn from(chunk: TimelineChunk) -> Self {
        let prev_batch = chunk.prev_batch.map(|token| token.to_string());
        Self { events: chunk.json, limited: chunk.limited, prev_batch }
    }
}

/// What the client lacks: from where to where, or everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct SyncRange {
    /// The client knows the state at this position.
    pub(super) after: i64,
    /// It is told the state up to this position.
    pub(super) upto: i64,
    /// It knows nothing, or wants everything.
    pub(super) whole: bool,
    /// Its user may know the state up to this position; of none if it is 0.
    pub(super) known_upto: Position,
}
