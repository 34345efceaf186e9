//! How calls to owners in other processes went.

use std::sync::atomic::AtomicU64;

/// How calls to owners in other processes went, counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) answered: AtomicU64,
    pub(crate) elsewhere: AtomicU64,
    pub(crate) silent: AtomicU64,
}
