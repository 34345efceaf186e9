//! Who may come in: how many connections are open, in all and from one network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::Config;
use crate::metrics::{Metrics, Refused};
use crate::pipeline::forwarded;

/// Counts open connections; shared by all listeners and by the drain at the end.
pub(crate) struct Gate {
    open: AtomicUsize,
    per_ip: Mutex<HashMap<IpAddr, usize>>,
    emptied: Notify,
    pub(super) metrics: Arc<Metrics>,
}

impl Gate {
    /// Makes a gate nobody has passed.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            open: AtomicUsize::new(0),
            per_ip: Mutex::default(),
            emptied: Notify::new(),
            metrics,
        }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Waits until no connection is open.
    pub(crate) async fn until_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn enter(self: &Arc<Self>, max: usize) -> Option<OpenConnection> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections.inc();
        self.metrics.accepted.inc();
        let passage = OpenConnection(Arc::clone(self));
        if before >= max {
            self.metrics.refused(Refused::TooManyConnections);
            return None;
        }
        Some(passage)
    }

    /// Counts a connection with its address, unless that is a trusted proxy's.
    pub(super) fn enter_from(
        self: &Arc<Self>,
        ip: IpAddr,
        config: &Config,
    ) -> Result<Option<OpenFromNetwork>, ()> {
        if config.denies(ip) {
            self.metrics.refused(Refused::Denied);
            return Err(());
        }
        if config.trusts(ip) {
            return Ok(None);
        }
        let network = forwarded::network(ip);
        let mut per_ip = self.per_ip.lock();
        let count = per_ip.entry(network).or_insert(0);
        if *count >= config.limits.connections_per_ip {
            self.metrics.refused(Refused::TooManyFromAddress);
            return Err(());
        }
        *count += 1;
        Ok(Some(OpenFromNetwork { gate: Arc::clone(self), network }))
    }
}

/// One open connection of an address; dropping it closes the count.
pub(super) struct OpenFromNetwork {
    gate: Arc<Gate>,
    network: IpAddr,
}

impl Drop for OpenFromNetwork {
    fn drop(&mut self) {
        let mut per_ip = self.gate.per_ip.lock();
        if let Some(count) = per_ip.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&self.network);
            }
        }
    }
}

/// One open connection; dropping it closes the count.
pub(super) struct OpenConnection(pub(super) Arc<Gate>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.metrics.connections.dec();
        if self.0.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
