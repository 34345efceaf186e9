//! What the streams of one HTTP/2 connection share: the client, and how many requests it abandoned.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

/// So many abandoned requests on one connection, and more than half of all, are a flood. A browser that
/// closes a busy page abandons some dozens.
const ABANDONED_MAX: u32 = 100;

/// What a connection and its streams share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Who is at the other end.
    pub(crate) peer: IpAddr,
    /// Whether it is encrypted.
    pub(crate) tls: bool,
    requests: AtomicU32,
    abandoned: AtomicU32,
}

impl Shared {
    pub(crate) fn new(peer: IpAddr, tls: bool) -> Self {
        Self { peer, tls, requests: AtomicU32::new(0), abandoned: AtomicU32::new(0) }
    }

    /// The client has begun a request.
    pub(crate) fn begin(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// The client went away from a request before it was answered.
    pub(crate) fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether the client mostly begins requests to abandon them: cheap for it, work for us and the
    /// workers.
    pub(crate) fn is_flooded(&self) -> bool {
        let abandoned = self.abandoned.load(Ordering::Relaxed);
        abandoned >= ABANDONED_MAX && abandoned > self.requests.load(Ordering::Relaxed) / 2
    }
}
