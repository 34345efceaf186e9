//! The worker's side of an attempt: an idle connection or a new one, and what becomes of it afterwards.

use std::pin::pin;
use std::task::{Context, Poll};

use super::response_transfer::ResponseTransfer;
use crate::pipeline::{Ctx, Gateway, WORKER_IDLE};
use crate::upstream::pools::InFlight;
use crate::upstream::transport::Plain;

/// A connection to a worker, and whether it has been used before.
pub(crate) async fn connect(
    gateway: &Gateway,
    ctx: &Ctx,
    attempt: &InFlight,
) -> Option<(Plain, bool)> {
    let member = attempt.member();
    let idle_ms = WORKER_IDLE.as_millis() as u64;
    if let Some(kept) = member.kept.take(gateway.clock.now_ms(), idle_ms) {
        return Some((kept, true));
    }
    let patience = ctx.live.config.limits.connect_timeout;
    let connecting = Box::pin(Plain::connect(&member.address));
    match tokio::time::timeout(patience, connecting).await {
        Ok(Ok(stream)) => Some((stream, false)),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Waits for something as long as the client is there; none if it goes away before.
pub(crate) async fn unless_gone<T>(
    awaited: impl Future<Output = T>,
    mut poll_gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
) -> Option<T> {
    let mut awaited = pin!(awaited);
    std::future::poll_fn(|cx| match awaited.as_mut().poll(cx) {
        Poll::Ready(here) => Poll::Ready(Some(here)),
        Poll::Pending => poll_gone(cx).map(|()| None),
    })
    .await
}

/// Lets the connection to the worker that answered rest, if it can carry another request.
pub(crate) fn keep(gateway: &Gateway, ctx: &Ctx, down: &ResponseTransfer, worker: Plain) {
    if down.worker_stays()
        && let Some(attempt) = &ctx.in_flight
    {
        attempt.member().kept.put(worker, &gateway.kept, gateway.clock.now_ms());
    }
}
