//! How connections learn that the gateway ends: first answers say `Connection: close`, then those
//! that rest are ended. Costs a request one load, and nothing while a connection rests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What connections listen to: those of one listener under one engine to a part, which ends with the whole.
#[derive(Debug, Default)]
pub struct GracefulShutdown {
    announced: AtomicBool,
    over: AtomicBool,
    next: AtomicU64,
    idle: Mutex<HashMap<u64, Waker>>,
    /// Whether it is announced, for who waits for that.
    announcement: watch::Sender<bool>,
    parts: Mutex<Vec<Weak<Self>>>,
}

impl GracefulShutdown {
    /// From now on every answer is the last of its connection.
    pub(crate) fn announce(&self) {
        self.announced.store(true, Ordering::Release);
        // On HTTP/2 it is said at once.
        self.idle.lock().values().for_each(Waker::wake_by_ref);
        self.announcement.send_replace(true);
        self.each_part(Self::announce);
    }

    /// A part that may be ended alone.
    pub(crate) fn part(&self) -> Arc<Self> {
        let part = Arc::new(Self::default());
        {
            let mut parts = self.parts.lock();
            parts.retain(|part| part.strong_count() > 0);
            parts.push(Arc::downgrade(&part));
        }
        // What the whole was told before the part was one of its own.
        if self.is_announced() {
            part.announce();
        }
        if self.is_over() {
            part.end();
        }
        part
    }

    /// Changes to true when the end is announced.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.announcement.subscribe()
    }

    fn each_part(&self, tell: impl Fn(&Self)) {
        let parts: Vec<Arc<Self>> = self.parts.lock().iter().filter_map(Weak::upgrade).collect();
        parts.iter().for_each(|part| tell(part));
    }

    /// Ends the connections that rest, and those that will.
    pub(crate) fn end(&self) {
        self.announce();
        let idle = {
            let mut idle = self.idle.lock();
            self.over.store(true, Ordering::Release);
            std::mem::take(&mut *idle)
        };
        idle.into_values().for_each(Waker::wake);
        self.each_part(Self::end);
    }

    pub(crate) fn is_announced(&self) -> bool {
        self.announced.load(Ordering::Acquire)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Has a task woken at the end; it must then look whether it rests.
    pub(crate) fn listen(&self, waker: Waker) -> Listening<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut idle = self.idle.lock();
        // Told under the same lock: none is forgotten between the end and its coming.
        if self.is_announced() {
            waker.wake_by_ref();
        }
        if self.is_over() {
            waker.wake();
        } else {
            idle.insert(number, waker);
        }
        Listening { graceful_shutdown: self, number }
    }
}

/// A connection that listens, until dropped.
#[derive(Debug)]
pub(crate) struct Listening<'f> {
    graceful_shutdown: &'f GracefulShutdown,
    number: u64,
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let _woken_already = self.graceful_shutdown.idle.lock().remove(&self.number);
    }
}
