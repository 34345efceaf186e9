//! One connection of HTTP/2: the h2 crate speaks it, every stream is a request of its own
//! (`stream.rs`). Bounds on what a client may ask for, rest times, and the announced end are here.

pub(crate) mod client;
pub(crate) mod head;
pub(crate) mod stream;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};

use super::timer::Timer;
use crate::config::Limits;
use crate::metrics::Refused;
use crate::pipeline::Gateway;
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::proxy::write_buffer::WriteBuffer;
use crate::upstream::transport::Transport;
use client::Shared;

/// Requests under way on one connection; browsers open at most about a hundred.
pub(crate) const STREAMS_MAX: u32 = 128;

/// Streams reset before they were served that are remembered; a client that resets faster than that
/// is cut off (rapid reset, CVE-2023-44487).
pub(crate) const RESETS_MAX: usize = 32;

/// How long the last word may take to leave.
const LINGER: Duration = Duration::from_secs(2);

type Request = (http::Request<RecvStream>, SendResponse<Bytes>);

/// What comes next on a connection.
enum Next {
    Request(Box<Request>),
    End(Reason),
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    transport: Transport,
    peer: IpAddr,
    limits: &Limits,
    ending: &GracefulShutdown,
) {
    let shared = Arc::new(Shared::new(peer, transport.is_encrypted()));
    let mut builder = Builder::new();
    builder
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_concurrent_reset_streams(RESETS_MAX);
    let shaking = builder.handshake(WriteBuffer::new(transport));
    let mut connection = match tokio::time::timeout(limits.header_timeout, shaking).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return gateway.metrics.refused(Refused::Malformed),
        Err(_) => return gateway.metrics.refused(Refused::TooSlow),
    };
    let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let listening = ending.listen(waker);
    let mut timer = Timer::new(limits.keepalive_timeout);
    let mut announced = false;
    let reason = loop {
        let next = std::future::poll_fn(|cx| {
            if ending.is_announced() && !std::mem::replace(&mut announced, true) {
                connection.graceful_shutdown();
            }
            if shared.is_flooded() {
                gateway.metrics.refused(Refused::Flood);
                return Poll::Ready(Next::End(Reason::ENHANCE_YOUR_CALM));
            }
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(request))) => {
                    return Poll::Ready(Next::Request(Box::new(request)));
                }
                Poll::Ready(_) => return Poll::Ready(Next::End(Reason::NO_ERROR)),
                Poll::Pending => {}
            }
            // Streams hold a share of it each.
            if Arc::strong_count(&shared) > 1 {
                timer.set(limits.keepalive_timeout);
            } else if ending.is_over() {
                return Poll::Ready(Next::End(Reason::NO_ERROR));
            }
            timer.poll(cx).map(|()| Next::End(Reason::NO_ERROR))
        });
        match next.await {
            Next::Request(request) => {
                shared.begin();
                timer.set(limits.keepalive_timeout);
                let (gateway, shared) = (Arc::clone(gateway), Arc::clone(&shared));
                let (request, respond) = *request;
                tokio::spawn(stream::serve(gateway, shared, request, respond));
            }
            Next::End(reason) => break reason,
        }
    };
    drop(listening);
    end(connection, reason).await;
}

/// Says the last word, if the client takes it.
async fn end(mut connection: Connection<WriteBuffer, Bytes>, reason: Reason) {
    connection.abrupt_shutdown(reason);
    let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
    let _gone = tokio::time::timeout(LINGER, closed).await;
}
