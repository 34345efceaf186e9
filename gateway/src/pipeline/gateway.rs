//! What all requests have in common.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::metrics::Metrics;
use crate::pipeline::active_config::{ActiveConfig, Clock};
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::pipeline::rate_limit::Buckets;
use crate::pipeline::replay_memory::ReplayMemory;
use crate::pipeline::request_ids::RequestIds;
use crate::upstream::idle::IdleCount;
use crate::upstream::slot_watcher::KnownEpoch;
use crate::upstream::user_lookup::Users;

/// How long what a client still sends behind a refusal, or the last answer, is read, so that it sees the answer and
/// no reset. nginx lingers 5 s; an attacker pays less attention to us with 2.
pub const REFUSED_DRAIN: std::time::Duration = std::time::Duration::from_secs(2);

/// How much of it is read at most.
pub const REFUSED_DRAIN_BYTES_MAX: usize = 16 << 20;

/// A body nobody wants is read before the next request on the connection if it is no longer than this.
pub const UNWANTED_BODY_MAX: u64 = 64 << 10;

/// Requests on one connection; then it is closed, so that load moves after a change.
pub const REQUESTS_PER_CONNECTION_MAX: u32 = 10_000;

/// Everything requests have in common.
pub struct Gateway {
    /// What is in force now.
    pub live: Arc<ArcSwap<ActiveConfig>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time pools and health know.
    pub clock: Clock,
    /// What addresses have asked.
    pub per_ip: Buckets,
    /// What access tokens have asked.
    pub per_token: Buckets,
    /// What users have asked.
    pub per_user: Buckets,
    /// Whose tokens are.
    pub users: Users,
    /// Whether answers are compressed.
    pub compression: bool,
    /// Makes ids for requests that bring none.
    pub request_ids: RequestIds,
    /// Which slot map is known to exist.
    pub known_epoch: Arc<KnownEpoch>,
    /// Whether requests get spans.
    pub spans: bool,
    /// Tells connections that the end has come.
    pub graceful_shutdown: Arc<GracefulShutdown>,
    /// What is held of requests' bodies.
    pub bodies: ReplayMemory,
    /// How many connections to workers rest, and may.
    pub kept: Arc<IdleCount>,
}
