//! What a client's connection and the requests on it share. Pingora hands it from the connection to the phases
//! through the connection's digest, the one place that is there for each request on HTTP/1 and HTTP/2.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use pingora::protocols::Digest;
use tokio::sync::futures::OwnedNotified;

use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::proxy::http1::request::Request;
use crate::proxy::http2::client::Shared;
use crate::upstream::pools::Member;

/// Where a connection of HTTP/1 stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// No head has been understood since the last request.
    Waiting = 0,
    /// One has been understood, and no phase has seen it yet.
    Read = 1,
    /// It is a request, and is being served.
    Served = 2,
}

/// What is shared.
pub(super) struct SharedConnection {
    /// Who is at the other end, and how much of what it began it has given up.
    pub(super) client: Shared,
    /// Tells when the connection is to end.
    pub(super) ending: Arc<GracefulShutdown>,
    phase: AtomicU8,
    /// Counts requests waited for, so that a deadline of one is never taken for that of another.
    turn: AtomicU32,
    head: Mutex<Option<Request>>,
    /// Whether client and worker have switched protocols.
    switched: AtomicBool,
    /// Whether the connection shall be reset, so that what the client got is not taken for the whole.
    aborting: AtomicBool,
    /// Whether what came as a body is not framed as one.
    malformed: AtomicBool,
    /// Fires when the worker that is waited for is taken for dead.
    watched: Mutex<Option<Pin<Box<OwnedNotified>>>>,
    marked_down: AtomicBool,
    /// Whether the worker has not switched although it was asked to.
    declined: AtomicBool,
    /// Whether the client has the whole answer: no more of the body is read.
    answered: AtomicBool,
    /// So many of a worker's `100 Continue` are on their way to the client, who does not wait for one.
    continues: AtomicU32,
}

impl std::fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedConnection").field("client", &self.client).finish_non_exhaustive()
    }
}

impl SharedConnection {
    pub(super) fn new(peer: IpAddr, tls: bool, ending: Arc<GracefulShutdown>) -> Self {
        Self {
            client: Shared::new(peer, tls),
            ending,
            phase: AtomicU8::new(Phase::Waiting as u8),
            turn: AtomicU32::new(0),
            head: Mutex::new(None),
            switched: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
            malformed: AtomicBool::new(false),
            watched: Mutex::new(None),
            marked_down: AtomicBool::new(false),
            declined: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            continues: AtomicU32::new(0),
        }
    }

    /// That of a request.
    pub(super) fn of(digest: Option<&Digest>) -> Option<Arc<Self>> {
        let shared = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
        shared.downcast_ref::<Arc<Self>>().cloned()
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Waiting,
            1 => Phase::Read,
            _ => Phase::Served,
        }
    }

    pub(super) fn turn(&self) -> u32 {
        self.turn.load(Ordering::Relaxed)
    }

    /// The next request may come now.
    pub(super) fn await_request(&self) {
        self.answered.store(false, Ordering::Relaxed);
        self.declined.store(false, Ordering::Relaxed);
        self.continues.store(0, Ordering::Relaxed);
        self.phase.store(Phase::Waiting as u8, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// A head has been understood.
    pub(super) fn has_read(&self, head: Request) {
        *self.head.lock() = Some(head);
        self.phase.store(Phase::Read as u8, Ordering::Relaxed);
    }

    /// A phase takes the head that has been read; from now on it is a request.
    pub(super) fn serve(&self) -> Option<Request> {
        self.phase.store(Phase::Served as u8, Ordering::Relaxed);
        self.head.lock().take()
    }

    /// From now on what comes is no HTTP any more.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// The worker answers instead of switching protocols.
    pub(super) fn decline(&self) {
        self.declined.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_declined(&self) -> bool {
        self.declined.load(Ordering::Relaxed)
    }

    /// The client has the whole answer.
    pub(super) fn answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// A worker's `100 Continue` shall not reach the client.
    pub(super) fn hold_back_continue(&self) {
        self.continues.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether what is written now is one of those.
    pub(super) fn holds_back(&self, written: &[u8]) -> bool {
        let waits = self.continues.load(Ordering::Relaxed);
        if waits == 0 || !written.starts_with(b"HTTP/1.1 100 ") {
            return false;
        }
        self.continues.store(waits - 1, Ordering::Relaxed);
        true
    }

    pub(super) fn abort(&self) {
        self.aborting.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.aborting.load(Ordering::Relaxed)
    }

    pub(super) fn note_malformed(&self) {
        self.malformed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_malformed(&self) -> bool {
        self.malformed.load(Ordering::Relaxed)
    }

    /// From now on reading fails as soon as this worker is taken for dead.
    pub(super) fn watch(&self, member: &Member) {
        *self.watched.lock() = Some(Box::pin(member.is_marked_down_owned()));
    }

    pub(super) fn unwatch(&self) {
        *self.watched.lock() = None;
    }

    /// Ready once the worker that is waited for is taken for dead.
    pub(super) fn poll_marked_down(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut watched = self.watched.lock();
        let fired = watched.as_mut().is_some_and(|watched| watched.as_mut().poll(cx).is_ready());
        if !fired {
            return Poll::Pending;
        }
        *watched = None;
        self.marked_down.store(true, Ordering::Relaxed);
        Poll::Ready(())
    }

    /// Says whether reading has failed for that, once.
    pub(super) fn was_marked_down(&self) -> bool {
        self.marked_down.swap(false, Ordering::Relaxed)
    }
}
