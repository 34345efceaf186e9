//! HTTP/1 from clients to workers, written directly on the connections: one task for each client's
//! connection, no task, channel or header map for a request. What is decided is decided in `pipeline`, as
//! for HTTP/2; here is how requests are read, sent on and answered (docs/decisions/0025-a-lean-path.md).
//!
//! `head` and `body` read what clients send, `request` writes it for workers, `response` and `body` read
//! what workers answer, `exchange` moves both and `down` the answer; `client` and `line` are the two
//! connections.

pub(crate) mod client;
mod file;
pub(crate) mod head_search;
pub(crate) mod request;
mod tunnel;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::proxy::attempt::Exchange;
use crate::proxy::forward::{Attempted, ClientSide, forward};
use crate::proxy::request_transfer::RequestTransfer;
use crate::proxy::response::write_answer;
use crate::proxy::response_transfer::ResponseTransfer;
use client::{Client, Next};
use colonnade_http1::AnswerFraming;
use colonnade_http1::Framing;
use request::Request;
use tunnel::tunnel;

use crate::config::Limits;
use crate::metrics::{Attempt, Refused};
use crate::pipeline::graceful_shutdown::GracefulShutdown;
use crate::pipeline::reply::Reply;
use crate::pipeline::{
    Answer, Ctx, Disposition, Ended, Gateway, REFUSED_DRAIN, REQUESTS_PER_CONNECTION_MAX,
    UNWANTED_BODY_MAX,
};
use crate::routing::head::Head;
use crate::upstream::transport::{Plain, Transport};

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
    ending: &Arc<GracefulShutdown>,
) {
    let mut client = Client::new(transport, peer, limits, Arc::clone(ending));
    let waker = std::future::poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
    let listening = ending.listen(waker);
    let mut left = REQUESTS_PER_CONNECTION_MAX;
    let after = loop {
        let head = match client.next_head(limits).await {
            Next::Head(bytes) => Request::parse(bytes),
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
        let mut turn = Handler { gateway, client: &mut client, head: &head, may_stay: left > 0 };
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

/// One request.
struct Handler<'t> {
    gateway: &'t Gateway,
    client: &'t mut Client,
    head: &'t Request,
    /// Whether the connection has not carried as many as it may.
    may_stay: bool,
}

impl Handler<'_> {
    /// Answers the request; says how it ended.
    async fn serve(&mut self, ctx: &mut Ctx) -> (Ended, After) {
        match self.gateway.admit(self.head, ctx).await {
            Disposition::Forward => self.forward(ctx).await,
            Disposition::Here(answer) => self.answer(ctx, &answer, false).await,
            Disposition::File(answer) => Box::pin(self.answer_file(ctx, answer)).await,
            Disposition::Cut(reply) => self.answer(ctx, &Answer::of(reply, ctx), true).await,
        }
    }

    /// Says whether this is the connection's last answer.
    fn is_last(&self) -> bool {
        !self.may_stay || !self.head.wire.keep_alive || self.client.ending.is_announced()
    }

    /// How the connection ends after its last answer.
    fn ending(&self) -> After {
        // Who says that nothing follows is not waited for.
        let silent = !self.head.wire.keep_alive && self.client.input.is_empty();
        if silent { After::End } else { After::Linger }
    }

    fn manner(&self, last: bool) -> AnswerFraming {
        AnswerFraming {
            http11: self.head.wire.http11,
            last,
            bodiless: self.head.method() == "HEAD",
        }
    }

    /// Tries workers until one has answered.
    async fn forward(&mut self, ctx: &mut Ctx) -> (Ended, After) {
        let share = self.gateway.bodies.share(ctx.live.config.limits.kept_body_bytes);
        let up = RequestTransfer::new(self.head, ctx, share);
        let (gateway, head) = (self.gateway, self.head);
        forward(self, gateway, head, ctx, up).await
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
        match self.head.wire.framing {
            Framing::Empty => Some(0),
            // It may come or not.
            _ if self.head.wire.expects_continue => None,
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// Reads a body of known length that nobody wants; says whether all of it came in time.
    async fn skip_body(&mut self) -> bool {
        let Framing::Length(mut left) = self.head.wire.framing else { return true };
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

impl ClientSide for Handler<'_> {
    type End = (Ended, After);

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.client.poll_gone(cx)
    }

    async fn attempt(
        &mut self,
        ctx: &mut Ctx,
        up: &mut RequestTransfer,
        worker: Plain,
        reused: bool,
    ) -> Attempted {
        let down = ResponseTransfer::new(reused, self.is_last());
        let Self { gateway, client, head, .. } = self;
        let mut exchange = Exchange { gateway, client, head, ctx, up, worker, down };
        let outcome = exchange.run().await;
        let Exchange { worker, down, .. } = exchange;
        Attempted { outcome, worker, down }
    }

    async fn refuse(&mut self, ctx: &Ctx, reply: Reply) -> (Ended, After) {
        self.answer(ctx, &Answer::of(reply, ctx), true).await
    }

    async fn switched(
        &mut self,
        ctx: &Ctx,
        mut worker: Plain,
        down: ResponseTransfer,
    ) -> (Ended, After) {
        let patience = ctx.live.config.limits.long_poll_timeout;
        let copying = Box::pin(tunnel(self.client, &mut worker, down.surplus, patience));
        let bytes = copying.await;
        (Ended { status: 101, bytes, attempt: Attempt::Answered }, After::End)
    }

    fn answered(
        &mut self,
        ended: Ended,
        down: &ResponseTransfer,
        is_taken: bool,
    ) -> (Ended, After) {
        let after = match (down.last, is_taken) {
            (false, _) => After::Next,
            (true, true) => self.ending(),
            (true, false) => After::Linger,
        };
        (ended, after)
    }

    fn cut(&mut self, ended: Ended) -> (Ended, After) {
        // On HTTP/1.0 the connection's end may be all that tells the body's.
        (ended, if self.head.wire.http11 { After::End } else { After::Abort })
    }

    fn gone(&mut self, ended: Ended) -> (Ended, After) {
        (ended, After::End)
    }
}
