//! HTTP/1 from clients to workers, written directly on the connections: one task for each client's
//! connection, no task, channel or header map for a request. What is decided is decided in `front.rs`, as
//! for HTTP/2; here is how requests are read, sent on and answered (docs/decisions/0025-a-lean-path.md).
//!
//! `head` and `body` read what clients send, `request` writes it for workers, `response` and `body` read
//! what workers answer, `exchange` moves both and `down` the answer; `client` and `line` are the two
//! connections.

mod body;
mod client;
mod down;
mod exchange;
mod farewell;
mod file;
mod head;
mod http2;
mod line;
mod request;
mod response;
mod share;
mod shrink;
mod stream;
mod stream_head;
mod timer;
mod tunnel;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use farewell::Farewell;
pub use line::{Kept, KeptCount};
pub use share::Memory;

use client::{Client, Next};
use down::{Down, Outcome};
use exchange::Exchange;
use head::{Framing, RequestHead};
use request::Upload;
use response::{Manner, write_answer};
use tunnel::tunnel;

use crate::config::Limits;
use crate::front::{
    Answer, Ctx, Ended, Gateway, REFUSED_DRAIN, REQUESTS_PER_CONNECTION_MAX, Verdict, WORKER_IDLE,
};
use crate::head::Head;
use crate::metrics::{Attempt, Refused};
use crate::pools::InFlight;
use crate::reply::{self, Reply};
use crate::transport::{Plain, Transport};

/// So much of a body nobody wants is read before the next request; more ends the connection.
const UNWANTED_BODY_MAX: u64 = 64 << 10;

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// It carries the next one.
    Next,
    /// It ends, and nothing is left to be read.
    End,
    /// It ends while the client may still be sending.
    Linger,
    /// It ends so that what the client got is not taken for the whole.
    Abort,
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    gateway: &Arc<Gateway>,
    transport: Transport,
    peer: IpAddr,
    limits: &Limits,
) {
    if transport.speaks_http2() {
        return Box::pin(http2::serve(gateway, transport, peer, limits)).await;
    }
    let mut client = Client::new(transport, peer, limits);
    let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let listening = gateway.farewell.listen(waker);
    let mut left = REQUESTS_PER_CONNECTION_MAX;
    let after = loop {
        let head = match client.next_head(limits, &gateway.farewell).await {
            Next::Head(bytes) => RequestHead::parse(bytes),
            Next::End => break After::End,
            Next::Refused(reply, why) => {
                break part(gateway, &mut client, reply, why);
            }
        };
        let head = match head {
            Ok(head) => head,
            Err(reply) => {
                let why = Refused::of_head(reply);
                break part(gateway, &mut client, reply, why);
            }
        };
        left -= 1;
        let mut ctx = gateway.begin(&head, client.peer, client.tls);
        let mut turn = Turn { gateway, client: &mut client, head: &head, may_stay: left > 0 };
        let (ended, after) = turn.serve(&mut ctx).await;
        gateway.end(&head, &mut ctx, ended);
        if after != After::Next {
            break after;
        }
    };
    drop(listening);
    match after {
        After::Abort => client.abort(),
        after => client.close(after == After::Linger).await,
    }
}

/// Refuses what never became a request.
fn part(gateway: &Gateway, client: &mut Client, reply: Reply, why: Refused) -> After {
    gateway.metrics.refused(why);
    client.output.extend_from_slice(&reply.parting_bytes());
    After::Linger
}

/// A connection to a worker, and whether it has been used before.
async fn connect(gateway: &Gateway, ctx: &Ctx, attempt: &InFlight) -> Option<(Plain, bool)> {
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
async fn unless_gone<T>(
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
fn keep(gateway: &Gateway, ctx: &Ctx, down: &Down, worker: Plain) {
    if down.worker_stays()
        && let Some(attempt) = &ctx.in_flight
    {
        attempt.member().kept.put(worker, &gateway.kept, gateway.clock.now_ms());
    }
}

/// One request.
struct Turn<'t> {
    gateway: &'t Gateway,
    client: &'t mut Client,
    head: &'t RequestHead,
    /// Whether the connection has not carried as many as it may.
    may_stay: bool,
}

impl Turn<'_> {
    /// Answers the request; says how it ended.
    async fn serve(&mut self, ctx: &mut Ctx) -> (Ended, After) {
        match self.gateway.admit(self.head, ctx).await {
            Verdict::Forward => self.forward(ctx).await,
            Verdict::Here(answer) => self.answer(ctx, &answer, false).await,
            Verdict::File(answer) => Box::pin(self.answer_file(ctx, answer)).await,
            Verdict::Cut(reply) => self.answer(ctx, &Answer::of(reply, ctx), true).await,
        }
    }

    /// Says whether this is the connection's last answer.
    fn is_last(&self) -> bool {
        !self.may_stay || !self.head.keep_alive || self.gateway.farewell.is_announced()
    }

    /// How the connection ends after its last answer.
    fn ending(&self) -> After {
        // Who says that nothing follows is not waited for.
        let silent = !self.head.keep_alive && self.client.input.is_empty();
        if silent { After::End } else { After::Linger }
    }

    fn manner(&self, last: bool) -> Manner {
        Manner { http11: self.head.http11, last, bodiless: self.head.method() == "HEAD" }
    }

    /// Tries workers until one has answered.
    async fn forward(&mut self, ctx: &mut Ctx) -> (Ended, After) {
        let share = self.gateway.bodies.share(ctx.live.config.limits.kept_body_bytes);
        let mut up = Upload::new(self.head, ctx, share);
        loop {
            let next = self.gateway.next_worker(ctx);
            let Some(next) = unless_gone(next, |cx| self.client.poll_gone(cx)).await else {
                return (Ended::GONE, After::End);
            };
            let Some(attempt) = next else {
                return self.answer(ctx, &Answer::of(reply::NO_WORKER, ctx), true).await;
            };
            let connected = connect(self.gateway, ctx, &attempt).await;
            ctx.in_flight = Some(attempt);
            let Some((worker, reused)) = connected else {
                ctx.end_attempt(self.gateway, Attempt::NoConnection);
                continue;
            };
            up.rewind(ctx.map_line());
            let down = Down::new(reused, self.is_last());
            let mut exchange = Exchange {
                gateway: self.gateway,
                client: self.client,
                head: self.head,
                ctx,
                up: &mut up,
                worker,
                down,
            };
            let outcome = exchange.run().await;
            let Exchange { worker, down, .. } = exchange;
            let replayable = up.is_replayable() && !down.hinted;
            let failed = match outcome {
                Outcome::Failed(attempt) => attempt,
                Outcome::Misdirected => Attempt::NotOwner,
                _ => return self.conclude(ctx, outcome, worker, down, &up).await,
            };
            let repeat = ctx.attempt_failed(self.gateway, self.head, failed, replayable);
            if let Err(reply) = repeat {
                return self.answer(ctx, &Answer::of(reply, ctx), true).await;
            }
        }
    }

    /// Ends a request that has met a worker for the last time.
    async fn conclude(
        &mut self,
        ctx: &mut Ctx,
        outcome: Outcome,
        mut worker: Plain,
        down: Down,
        up: &Upload,
    ) -> (Ended, After) {
        let ended = |attempt| Ended { status: down.status, bytes: down.bytes, attempt };
        match outcome {
            Outcome::Answered => {
                keep(self.gateway, ctx, &down, worker);
                let after = match (down.last, up.is_taken) {
                    (false, _) => After::Next,
                    (true, true) => self.ending(),
                    (true, false) => After::Linger,
                };
                (ended(Attempt::Answered), after)
            }
            Outcome::Switched => {
                let patience = ctx.live.config.limits.long_poll_timeout;
                let copying = Box::pin(tunnel(self.client, &mut worker, down.surplus, patience));
                let bytes = copying.await;
                (Ended { status: 101, bytes, attempt: Attempt::Answered }, After::End)
            }
            Outcome::Refused(reply) => self.answer(ctx, &Answer::of(reply, ctx), true).await,
            Outcome::Cut(fault) => {
                // On HTTP/1.0 the connection's end may be all that tells the body's.
                let after = if self.head.http11 { After::End } else { After::Abort };
                (ended(fault.unwrap_or(Attempt::Answered)), after)
            }
            _ if down.status == 0 => (Ended::GONE, After::End),
            _ => (ended(Attempt::Answered), After::End),
        }
    }

    /// Answers here.
    async fn answer(&mut self, ctx: &Ctx, answer: &Answer, cut: bool) -> (Ended, After) {
        let unread = self.unread();
        let small = unread.is_some_and(|length| length <= UNWANTED_BODY_MAX);
        let last = cut || !small || self.is_last();
        let manner = self.manner(last);
        let bytes = write_answer(&mut self.client.output, answer, manner);
        // An attempt that is still open was ended by the client's fault.
        let ended = Ended { status: answer.status, bytes, attempt: Attempt::Abandoned };
        if self.client.drain(ctx.live.config.limits.body_timeout).await.is_err() {
            return (ended, After::End);
        }
        if last {
            let whole = unread == Some(0) && !cut;
            return (ended, if whole { self.ending() } else { After::Linger });
        }
        let skipped = unread == Some(0) || self.skip_body().await;
        (ended, if skipped { After::Next } else { After::Linger })
    }

    /// How long a body is still to come that nobody has begun to read; none if nobody knows.
    fn unread(&self) -> Option<u64> {
        match self.head.framing {
            Framing::Empty => Some(0),
            // It may come or not.
            _ if self.head.expects_continue => None,
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// Reads a body of known length that nobody wants; says whether all of it came in time.
    async fn skip_body(&mut self) -> bool {
        let Framing::Length(mut left) = self.head.framing else { return true };
        let client = &mut *self.client;
        client.timer.set(REFUSED_DRAIN);
        std::future::poll_fn(|cx| {
            loop {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(client.input.len());
                client.input.drain(..here);
                left -= here as u64;
                if left == 0 {
                    return Poll::Ready(true);
                }
                match client.poll_fill(cx) {
                    Poll::Ready(Ok(came)) if came > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(false),
                    Poll::Pending => return client.timer.poll(cx).map(|()| false),
                }
            }
        })
        .await
    }
}
