//! How far this process is in what it follows.

use std::collections::HashMap;

use colonnade_model::stream::Position;
use colonnade_replication::slots::Right;
use tokio::time::Instant;

/// How far this process is.
pub(super) struct Following {
    /// Of the map of slots by which these shards are ours.
    pub(super) epoch: i64,
    pub(super) shards: HashMap<i64, Right>,
    /// Up to where events were handed out.
    pub(super) events: Position,
    /// Up to where it was looked who read.
    pub(super) receipts: Position,
    /// What the database says of each shard, since when.
    pub(super) noted: HashMap<i64, Position>,
    pub(super) noted_at: Instant,
}
