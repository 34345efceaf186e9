//! A server process and client devices for conversations through the gateway. Everything listens on
//! loopback, on ports of its own, in a folder of its own; a server is ended by its handle alone.

mod device;
mod server;

pub use device::{Device, Seen};
pub use server::Server;

use std::{
    future::Future,
    time::{Duration, Instant},
};

/// How long anything may take to become true; a loaded machine needs some of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `probe` gives a value.
///
/// # Panics
/// When it does not within a minute; `what` says what was waited for.
pub async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
