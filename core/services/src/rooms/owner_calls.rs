//! How calls to owners in other processes went.

use std::sync::atomic::AtomicU64;

/// How calls to owners in other processes went, counted since the start.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub(super) answered: AtomicU64,
    pub(super) elsewhere: AtomicU64,
    pub(super) silent: AtomicU64,
}
