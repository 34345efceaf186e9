//! A connection whose both sides have switched protocols: bytes, both ways, until either ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::client::Client;
use crate::upstream::idle::poll_read_with;
use crate::upstream::transport::Plain;

/// How much is read from a worker at once.
const READ_BYTES: usize = 16 << 10;

/// Copies both ways between a client and a worker that have switched protocols, until either ends or
/// nothing comes from either for `patience`.
pub(crate) async fn tunnel(
    client: &mut Client,
    worker: &mut Plain,
    surplus: Vec<u8>,
    patience: Duration,
) -> usize {
    client.output.extend_from_slice(&surplus);
    let mut down_bytes = surplus.len();
    let mut up = 0;
    client.timer.set(patience);
    std::future::poll_fn(|cx| {
        loop {
            let mut step = false;
            match poll_tunnel(client, worker, &mut up, cx) {
                Ok((went, came)) => {
                    step |= went;
                    down_bytes += came;
                }
                Err(_) => return Poll::Ready(()),
            }
            if !step {
                break;
            }
            client.timer.set(patience);
        }
        client.timer.poll(cx)
    })
    .await;
    down_bytes
}

/// Moves what can be moved: whether anything did, and how many bytes came from the worker.
fn poll_tunnel(
    client: &mut Client,
    worker: &mut Plain,
    up: &mut usize,
    cx: &mut Context<'_>,
) -> io::Result<(bool, usize)> {
    let (mut went, mut came) = (false, 0);
    if client.input.is_empty() {
        if let Poll::Ready(read) = client.poll_fill(cx)
            && read? == 0
        {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        went |= !client.input.is_empty();
    }
    if *up < client.input.len()
        && let Poll::Ready(wrote) = Pin::new(&mut *worker).poll_write(cx, &client.input[*up..])
    {
        *up += wrote?;
        went = true;
        if *up == client.input.len() {
            (client.input, *up) = (Vec::new(), 0);
        }
    }
    if client.pending() == 0 {
        let Client { output, .. } = client;
        let read = poll_read_with::<_, _, READ_BYTES>(worker, cx, |bytes| {
            output.extend_from_slice(bytes);
            bytes.len()
        });
        if let Poll::Ready(read) = read {
            came = read?;
            if came == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            went = true;
        }
    }
    let before = client.pending();
    if let Poll::Ready(drained) = client.poll_drain(cx) {
        drained?;
    }
    Ok((went || client.pending() < before, came))
}
