//! One attempt at a worker: the request goes up, the answer comes down, both at once, in one task and
//! without channels. Whoever is slow slows the other side down: what waits for either is bounded.
//!
//! Invariants:
//! 1. A worker's connection rests only after a whole request and a whole answer, and nothing else.
//! 2. Bytes behind a request stay where they are until it is answered.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use super::http1::client::Client;
use super::http1::request::Request;
use super::request_transfer::RequestTransfer;
use super::response;
use super::response_transfer::{Listener, Outcome, ResponseTransfer, Sink, Waiting};
use crate::pipeline::{Ctx, Gateway};
use crate::upstream::idle::poll_read_with;
use crate::upstream::pools::Member;
use crate::upstream::transport::Plain;
use colonnade_http1::{AnswerFraming, ResponseHead, Writing};
use colonnade_http1::{LAST_CHUNK, write_chunk};

/// How much is read from a worker at once.
const READ_BYTES: usize = 32 << 10;

/// No more is read from a worker while so much waits for the client.
const PENDING_MAX: usize = 32 << 10;

/// An attempt.
pub(crate) struct Exchange<'a> {
    pub(crate) gateway: &'a Gateway,
    pub(crate) client: &'a mut Client,
    pub(crate) head: &'a Request,
    pub(crate) ctx: &'a mut Ctx,
    pub(crate) up: &'a mut RequestTransfer,
    pub(crate) worker: Plain,
    pub(crate) down: ResponseTransfer,
}

/// Waits for the outcome of an attempt; none if the worker is taken for dead meanwhile. One that is only
/// paused would keep the request as long as patience lasts.
pub(crate) async fn unless_marked_down(
    member: Option<&Member>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<Outcome>,
) -> Option<Outcome> {
    let mut marked_down = pin!(member.map(Member::is_marked_down));
    std::future::poll_fn(|cx| match poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => match marked_down.as_mut().as_pin_mut() {
            Some(marked_down) => marked_down.poll(cx).map(|()| None),
            None => Poll::Pending,
        },
    })
    .await
}

impl Exchange<'_> {
    /// Runs the attempt to its end.
    pub(crate) async fn run(&mut self) -> Outcome {
        let member = self.ctx.in_flight.as_ref().map(|attempt| Arc::clone(attempt.member()));
        let outcome = unless_marked_down(member.as_deref(), |cx| self.poll(cx)).await;
        outcome.unwrap_or_else(|| self.down.broken())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Outcome> {
        let mut moved = false;
        loop {
            let mut step = false;
            match self.poll_up(cx) {
                Ok(went) => step |= went,
                Err(outcome) => return Poll::Ready(outcome),
            }
            match self.poll_down(cx) {
                Ok(went) => step |= went,
                Err(outcome) => return Poll::Ready(outcome),
            }
            if !step {
                break;
            }
            moved = true;
        }
        // A client that goes away while it waits takes its request with it (docs/operating/gateway.md).
        let body_is_read = self.up.is_taken || self.up.refused;
        if body_is_read && self.client.poll_gone(cx).is_ready() {
            return Poll::Ready(Outcome::Gone);
        }
        let waiting = Waiting::of(self.client.pending(), self.up);
        self.down.poll_deadline(cx, waiting, moved, (self.ctx, &mut self.client.timer))
    }

    /// Moves the request: to the worker what has been taken, from the client what comes next.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Result<bool, Outcome> {
        let mut went = false;
        loop {
            if !self.up.is_taken && !self.client.input.is_empty() && self.up.wants_more() {
                let taken = self.up.take(&mut self.client.input, self.ctx);
                went |= taken.map_err(|reply| self.down.refused(reply))?;
            }
            if self.up.pending().is_empty() {
                break;
            }
            match Pin::new(&mut self.worker).poll_write(cx, self.up.pending()) {
                Poll::Ready(Ok(count)) if count > 0 => self.up.advance(count),
                // It may have answered before it closed.
                Poll::Ready(_) => self.up.refused = true,
                Poll::Pending => break,
            }
            went = true;
        }
        self.tell_to_continue(cx);
        if self.up.wants_more() && self.client.input.is_empty() {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Outcome::Gone),
                Poll::Ready(Ok(_)) => went = true,
                Poll::Pending => {}
            }
        }
        Ok(went)
    }

    /// A client that waits for leave to send its body gets it when the worker wants it.
    fn tell_to_continue(&mut self, cx: &mut Context<'_>) {
        let due = self.head.wire.expects_continue
            && self.up.wants_more()
            && self.ctx.body_bytes == 0
            && self.client.input.is_empty();
        if due && self.down.poll_leave(cx).is_ready() {
            self.client.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
    }

    /// Moves the answer: to the client what has been understood, from the worker what comes next.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Result<bool, Outcome> {
        let mut went = false;
        let mut drained = true;
        if self.client.pending() > 0 || self.down.is_done() {
            let before = self.client.pending();
            match self.client.poll_drain(cx) {
                Poll::Ready(Ok(())) if self.down.is_done() => return Err(Outcome::Answered),
                Poll::Ready(Ok(())) if self.down.status == 101 => return Err(Outcome::Switched),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Err(Outcome::Gone),
                Poll::Pending => drained = false,
            }
            went |= self.client.pending() < before;
        }
        let room = drained || self.client.pending() < PENDING_MAX;
        if !room || self.down.is_done() || self.down.status == 101 {
            return Ok(went);
        }
        let Self { gateway, client, head, ctx, up, worker, down } = self;
        let read = poll_read_with::<_, _, READ_BYTES>(worker, cx, |came| {
            let sink = Http1 { client, head };
            let mut listener = Listener { gateway, sink, head: *head, ctx, up };
            listener.hear(down, came)
        });
        match read {
            Poll::Ready(Ok(heard)) => heard.map(|()| true),
            Poll::Ready(Err(_)) => Err(self.down.broken()),
            Poll::Pending => Ok(went),
        }
    }
}

/// An answer as HTTP/1 writes it.
struct Http1<'c> {
    client: &'c mut Client,
    head: &'c Request,
}

impl Sink for Http1<'_> {
    fn takes_interims(&self) -> bool {
        self.head.wire.http11
    }

    fn may_switch(&self) -> bool {
        self.head.wire.upgrade
    }

    fn interim(&mut self, answer: &ResponseHead<'_>) {
        response::write_interim(answer, &mut self.client.output);
    }

    fn begin(
        &mut self,
        answer: &ResponseHead<'_>,
        ctx: &Ctx,
        down: &mut ResponseTransfer,
        bodiless: bool,
    ) {
        let manner = AnswerFraming { http11: self.head.wire.http11, last: false, bodiless };
        // The end may have been announced while the worker was waited for.
        down.last |= self.client.ending.is_announced();
        down.last |= !answer.is_delimited(manner, down.shrink.is_some());
        let manner = AnswerFraming { last: down.last, ..manner };
        down.writing =
            response::write(answer, &mut self.client.output, ctx, manner, &mut down.shrink);
    }

    fn data(&mut self, data: &[u8], writing: Writing) {
        match writing {
            Writing::Plain => self.client.output.extend_from_slice(data),
            Writing::Chunks => write_chunk(&mut self.client.output, data),
        }
    }

    fn finish(&mut self, writing: Writing) {
        if writing == Writing::Chunks {
            self.client.output.extend_from_slice(LAST_CHUNK);
        }
    }
}
