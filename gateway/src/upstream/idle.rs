//! Connections to workers, and those that rest between requests: held by the member of the pool they
//! lead to, so that they go when it goes. No task watches them; a dead one is noticed when it is taken.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, ReadBuf};

use crate::upstream::transport::Plain;

/// How many connections to workers rest, and how many may, all workers together.
#[derive(Debug)]
pub struct IdleCount {
    idle: AtomicUsize,
    max: usize,
}

impl IdleCount {
    /// None rests yet.
    pub fn new(max: usize) -> Self {
        Self { idle: AtomicUsize::new(0), max }
    }
}

#[derive(Debug)]
struct IdleConnection {
    stream: Plain,
    since_ms: u64,
    _place: IdlePermit,
}

/// A place among those that rest.
#[derive(Debug)]
struct IdlePermit(Arc<IdleCount>);

impl IdlePermit {
    fn take(count: &Arc<IdleCount>) -> Option<Self> {
        let before = count.idle.fetch_add(1, Ordering::Relaxed);
        let place = Self(Arc::clone(count));
        (before < count.max).then_some(place)
    }
}

impl Drop for IdlePermit {
    fn drop(&mut self) {
        self.0.idle.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connections to one worker that rest.
#[derive(Debug, Default)]
pub struct IdleConnections(Mutex<Vec<IdleConnection>>);

impl IdleConnections {
    /// Takes the one that rested last, if it is alive and has not rested longer than `idle_ms`.
    pub(crate) fn take(&self, now_ms: u64, idle_ms: u64) -> Option<Plain> {
        loop {
            let idle = self.0.lock().pop()?;
            if idle.since_ms + idle_ms > now_ms && is_quiet(&idle.stream) {
                return Some(idle.stream);
            }
        }
    }

    /// Keeps one, if there is a place for it.
    pub(crate) fn put(&self, stream: Plain, count: &Arc<IdleCount>, now_ms: u64) {
        if let Some(place) = IdlePermit::take(count) {
            self.0.lock().push(IdleConnection { stream, since_ms: now_ms, _place: place });
        }
    }

    /// Closes all: the worker has been restarted, or its host.
    pub(crate) fn clear(&self) {
        let gone = std::mem::take(&mut *self.0.lock());
        drop(gone);
    }

    /// Closes those that have rested too long, and those the worker has closed.
    pub(crate) fn expire(&self, now_ms: u64, idle_ms: u64) {
        let alive =
            |idle: &IdleConnection| idle.since_ms + idle_ms > now_ms && is_quiet(&idle.stream);
        self.0.lock().retain(alive);
    }
}

/// Says whether nothing has come, not even the end; asks the kernel only if something may have.
fn is_quiet(stream: &Plain) -> bool {
    let mut byte = [0];
    let read = match stream {
        Plain::Tcp(stream) => stream.try_read(&mut byte),
        Plain::Unix(stream) => stream.try_read(&mut byte),
    };
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Reads once into memory of the stack, so that whoever waits owns no buffer; `f` gets what came, nothing
/// at the end.
pub(crate) fn poll_read_with<S: AsyncRead + Unpin, T, const BYTES: usize>(
    stream: &mut S,
    cx: &mut Context<'_>,
    f: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut scratch = [const { MaybeUninit::uninit() }; BYTES];
    let mut buffer = ReadBuf::uninit(&mut scratch);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(f(buffer.filled())))
}
