//! One attempt at a worker: the request goes up, the answer comes down, both at once, in one task and
//! without channels. Whoever is slow slows the other side down: what waits for either is bounded.
//!
//! Invariants:
//! 1. A worker's connection rests only after a whole request and a whole answer, and nothing else.
//! 2. Bytes behind a request stay where they are until it is answered.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::client::Client;
use super::down::{Down, Listener, Outcome};
use super::head::RequestHead;
use super::line::poll_read_with;
use super::request::Upload;
use crate::front::{Ctx, Gateway};
use crate::reply;
use crate::transport::Plain;

/// How much is read from a worker at once.
const READ_BYTES: usize = 32 << 10;

/// No more is read from a worker while so much waits for the client.
const PENDING_MAX: usize = 32 << 10;

/// What a client may send ahead while it waits; then it is no longer looked at until its turn.
const AHEAD_BYTES_MAX: usize = 16 << 10;

/// Who is waited for, when nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// The client, to take what is sent.
    ClientTakes,
    /// The worker, to take what is sent.
    WorkerTakes,
    /// The client, to send its body.
    Body,
    /// The worker, to answer.
    Answer,
}

/// An attempt.
pub(super) struct Exchange<'a> {
    pub(super) gateway: &'a Gateway,
    pub(super) client: &'a mut Client,
    pub(super) head: &'a RequestHead,
    pub(super) ctx: &'a mut Ctx,
    pub(super) up: &'a mut Upload,
    pub(super) worker: Plain,
    pub(super) down: Down,
}

impl Exchange<'_> {
    /// Runs the attempt to its end.
    pub(super) async fn run(&mut self) -> Outcome {
        let member = self.ctx.in_flight.as_ref().map(|attempt| Arc::clone(attempt.member()));
        let mut fallen = pin!(member.as_ref().map(|member| member.has_fallen()));
        std::future::poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            // A worker that is only paused would keep the request as long as patience lasts.
            Poll::Pending => match fallen.as_mut().as_pin_mut() {
                Some(fallen) => fallen.poll(cx).map(|()| self.down.broken()),
                None => Poll::Pending,
            },
        })
        .await
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
        if let Err(outcome) = self.poll_client_is_there(cx) {
            return Poll::Ready(outcome);
        }
        self.poll_deadline(cx, moved)
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
        self.tell_to_continue();
        if self.up.wants_more() && self.client.input.is_empty() {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Outcome::Gone),
                Poll::Ready(Ok(_)) => went = true,
                Poll::Pending => {}
            }
        }
        Ok(went)
    }

    /// A client that waits for leave to send its body gets it as soon as the worker has the head.
    fn tell_to_continue(&mut self) {
        let due = self.head.expects_continue
            && !self.down.told_to_continue
            && self.up.wants_more()
            && self.ctx.body_bytes == 0
            && self.client.input.is_empty()
            && self.down.body.is_none();
        if due {
            self.down.told_to_continue = true;
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
            let mut listener = Listener { gateway, client, head, ctx, up };
            match came.is_empty() {
                true => listener.end(down),
                false => listener.hear(down, came),
            }
        });
        match read {
            Poll::Ready(Ok(heard)) => heard.map(|()| true),
            Poll::Ready(Err(_)) => Err(self.down.broken()),
            Poll::Pending => Ok(went),
        }
    }

    /// A client that goes away while it waits takes its request with it (docs/operating/gateway.md).
    fn poll_client_is_there(&mut self, cx: &mut Context<'_>) -> Result<(), Outcome> {
        let body_is_read = self.up.is_taken || self.up.refused;
        while body_is_read && self.client.input.len() < AHEAD_BYTES_MAX {
            match self.client.poll_fill(cx) {
                Poll::Ready(Ok(0) | Err(_)) => return Err(Outcome::Gone),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<Outcome> {
        let limits = &self.ctx.live.config.limits;
        let waiting = if self.client.pending() > 0 {
            Waiting::ClientTakes
        } else if !self.up.pending().is_empty() {
            Waiting::WorkerTakes
        } else if self.up.wants_more() {
            Waiting::Body
        } else {
            Waiting::Answer
        };
        if moved || self.down.waiting != Some(waiting) {
            self.down.waiting = Some(waiting);
            self.client.timer.set(match waiting {
                Waiting::ClientTakes | Waiting::Body => limits.body_timeout,
                Waiting::WorkerTakes => limits.response_timeout,
                Waiting::Answer => self.ctx.patience,
            });
        }
        ready!(self.client.timer.poll(cx));
        Poll::Ready(match waiting {
            Waiting::ClientTakes => Outcome::Cut(None),
            Waiting::WorkerTakes | Waiting::Answer => self.down.too_slow(),
            Waiting::Body => self.down.refused(reply::TOO_SLOW),
        })
    }
}
