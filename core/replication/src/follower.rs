//! The follower: the one reader of the streams in a process. Whatever else has to hear of a change, a
//! cache, a client that waits, a queue that delivers, subscribes here.
//!
//! Of each advance, in the order of the streams and without gaps:
//!
//! 1. Caches forget what it makes stale.
//! 2. Subscribers note it, in the order in which they subscribed.
//! 3. [`Streams::note`] says so to requests that wait for what they wrote in another process.
//!
//! So whoever is woken by a change, by a subscriber or by 3, finds nothing in memory that it made stale.
//! A process that falls behind tells everybody once that anything may have moved ([`Subscriber::missed`]).
//!
//! Nobody here waits: a consumer with work of its own (it reads rows, it asks other servers) subscribes a
//! [`Latest`] of positions, waits for that in a task, and reads the database from where it ended.

use std::sync::{Arc, Weak};

use colonnade_model::stream::{Positions, StreamAdvance};
use tokio::sync::broadcast;

use crate::{Latest, Streams};

/// Somebody who is told of changes by the follower, one after the other: it must not wait.
pub trait Subscriber: Send + Sync + 'static {
    /// Takes note of an advance.
    fn advanced(&self, advance: &StreamAdvance);

    /// Takes note that anything may have moved, up to these positions: nobody knows what was missed.
    fn missed(&self, upto: Positions);
}

/// How far the process has come, for tasks that wait until it has come further.
impl Subscriber for Latest<Positions> {
    fn advanced(&self, advance: &StreamAdvance) {
        self.change(|positions| {
            let upto = positions.get(advance.stream).max(advance.upto);
            positions.set(advance.stream, upto);
        });
    }

    fn missed(&self, upto: Positions) {
        self.set(upto);
    }
}

/// Reads the streams, for everybody who subscribed before it starts.
pub struct Follower {
    streams: Weak<Streams>,
    advances: broadcast::Receiver<Arc<StreamAdvance>>,
    caches: Vec<Weak<dyn Subscriber>>,
    subscribers: Vec<Weak<dyn Subscriber>>,
    noted: Positions,
}

impl Follower {
    /// Begins to listen: of every advance from now on, subscribers are told once it is started. Make it
    /// before what subscribes reads where things stand.
    pub fn new(streams: &Arc<Streams>) -> Self {
        Self {
            advances: streams.subscribe(),
            noted: streams.positions(),
            streams: Arc::downgrade(streams),
            caches: Vec::new(),
            subscribers: Vec::new(),
        }
    }

    /// Subscribes a cache of rows from which the writing process itself removes what it wrote, right after
    /// its commit. It is told only while other processes write, too, and before every subscriber.
    #[must_use]
    pub fn cache<S: Subscriber>(mut self, cache: &Arc<S>) -> Self {
        let cache: Weak<S> = Arc::downgrade(cache);
        self.caches.push(cache);
        self
    }

    /// Subscribes somebody who is told of everything, as long as that lives. Who keeps something in memory
    /// subscribes before who wakes others.
    #[must_use]
    pub fn subscribe<S: Subscriber>(mut self, subscriber: &Arc<S>) -> Self {
        let subscriber: Weak<S> = Arc::downgrade(subscriber);
        self.subscribers.push(subscriber);
        self
    }

    /// Follows the streams as long as they live.
    pub fn start(self) {
        tokio::spawn(self.run());
    }

    async fn run(mut self) {
        loop {
            let advance = self.advances.recv().await;
            let Some(streams) = self.streams.upgrade() else { return };
            match advance {
                Ok(advance) => self.tell(&advance, streams.is_shared()),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "fell behind the bus; looking at everything again");
                    self.tell_missed(streams.positions());
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
            streams.note(self.noted);
        }
    }

    fn tell(&mut self, advance: &StreamAdvance, is_shared: bool) {
        // First: whoever is woken finds nothing stale in memory.
        let caches = self.caches.iter().filter(|_| is_shared);
        for subscriber in caches.chain(&self.subscribers).filter_map(Weak::upgrade) {
            subscriber.advanced(advance);
        }
        let upto = self.noted.get(advance.stream).max(advance.upto);
        self.noted.set(advance.stream, upto);
    }

    fn tell_missed(&mut self, upto: Positions) {
        for subscriber in self.caches.iter().chain(&self.subscribers).filter_map(Weak::upgrade) {
            subscriber.missed(upto);
        }
        self.noted = upto;
    }
}

#[cfg(test)]
mod tests;
