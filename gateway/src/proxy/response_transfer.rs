//! A worker's answer, on its way to the client: heads are read and written anew, bodies are framed anew,
//! and what is no answer ends the attempt.
//!
//! Invariants:
//! 1. Nothing of the worker's answer reaches the client before its head is whole and understood.
//! 2. What reaches the client ends as a whole answer only if the worker's was whole.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::compression::Compressor;
use super::request_transfer::RequestTransfer;
use super::timer::Timer;
use crate::metrics::Attempt;
use crate::pipeline::reply::{self, Reply};
use crate::pipeline::{Ctx, Gateway};
use crate::routing::head::Head;
use colonnade_http1::Body;
use colonnade_http1::{BadAnswer, HEAD_BYTES_MAX, ResponseHead, Writing};
use tokio::time::{Sleep, sleep};

/// Interim answers to one request; a worker sends one or two.
const INTERIMS_MAX: u32 = 16;
/// A client that waits for leave to send its body gets it when the worker has said nothing for so long: not
/// every worker knows of it, and clients wait about as long by themselves.
const LEAVE_AFTER: Duration = Duration::from_secs(1);

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The client has the whole answer.
    Answered,
    /// The worker switches protocols, and the client has been told.
    Switched,
    /// The worker failed; nothing has been passed on.
    Failed(Attempt),
    /// Another worker owns what is asked for.
    Misdirected,
    /// The request is refused after all; nothing has been passed on.
    Refused(Reply),
    /// The client is gone.
    Gone,
    /// The answer cannot be completed: the worker's fault, if one is named.
    Cut(Option<Attempt>),
}

/// Who is waited for, when nothing moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The client, to take what is sent.
    ClientTakes,
    /// The worker, to take what is sent.
    WorkerTakes,
    /// The client, to send its body.
    Body,
    /// The worker, to answer.
    Answer,
}

impl Waiting {
    /// Of a request of which so much waits for the client.
    pub(crate) fn of(client_pending: usize, up: &RequestTransfer) -> Self {
        if client_pending > 0 {
            Self::ClientTakes
        } else if !up.pending().is_empty() {
            Self::WorkerTakes
        } else if up.wants_more() {
            Self::Body
        } else {
            Self::Answer
        }
    }
}

/// The answer on its way down.
pub(crate) struct ResponseTransfer {
    /// Whether the worker's connection had been used before.
    reused: bool,
    /// Whether this is the last answer of the client's connection.
    pub(crate) last: bool,
    /// What came and is not understood yet: part of a head.
    partial: Vec<u8>,
    /// None until the head is known.
    pub(crate) body: Option<Body>,
    pub(crate) writing: Writing,
    pub(crate) shrink: Option<Box<Compressor>>,
    /// The status told the client, 0 before.
    pub(crate) status: u16,
    /// Bytes of the body passed on.
    pub(crate) bytes: usize,
    /// Whether the worker has said anything.
    has_begun: bool,
    interims: u32,
    /// Whether the client has been told anything already.
    pub(crate) hinted: bool,
    pub(crate) continue_sent: bool,
    /// Whether the worker has said that it wants the body.
    wants_body: bool,
    /// When the client is told to send it although the worker has said nothing.
    leave: Option<Pin<Box<Sleep>>>,
    worker_stays: bool,
    /// What came behind the head that switches protocols.
    pub(crate) surplus: Vec<u8>,
    waiting: Option<Waiting>,
}

impl ResponseTransfer {
    pub(crate) fn new(reused: bool, last: bool) -> Self {
        Self {
            reused,
            last,
            partial: Vec::new(),
            body: None,
            writing: Writing::Plain,
            shrink: None,
            status: 0,
            bytes: 0,
            has_begun: false,
            interims: 0,
            hinted: false,
            continue_sent: false,
            wants_body: false,
            leave: None,
            worker_stays: false,
            surplus: Vec::new(),
            waiting: None,
        }
    }

    /// Says whether the worker's connection can carry another request.
    pub(crate) fn worker_stays(&self) -> bool {
        self.worker_stays
    }

    pub(crate) fn is_done(&self) -> bool {
        self.body.is_some_and(Body::is_done)
    }

    /// Ready when a client that waits for leave to send its body is to have it: the worker wants it, and has not
    /// refused the request by what its head says, or has said nothing for a while.
    pub(crate) fn poll_leave(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.continue_sent || self.body.is_some() {
            return Poll::Pending;
        }
        if !self.wants_body {
            let leave = self.leave.get_or_insert_with(|| Box::pin(sleep(LEAVE_AFTER)));
            ready!(leave.as_mut().poll(cx));
        }
        self.continue_sent = true;
        Poll::Ready(())
    }

    /// How the attempt fails when the worker breaks off.
    pub(crate) fn broken(&self) -> Outcome {
        match (self.status, self.reused && !self.has_begun) {
            (0, true) => Outcome::Failed(Attempt::Stale),
            (0, false) => Outcome::Failed(Attempt::Broken),
            _ => Outcome::Cut(Some(Attempt::Broken)),
        }
    }

    fn too_slow(&self) -> Outcome {
        match self.status {
            0 => Outcome::Failed(Attempt::TooSlow),
            _ => Outcome::Cut(Some(Attempt::TooSlow)),
        }
    }

    /// How it ends when the client is at fault.
    pub(crate) fn refused(&self, reply: Reply) -> Outcome {
        if self.status == 0 { Outcome::Refused(reply) } else { Outcome::Cut(None) }
    }

    /// Ready when whoever is waited for has let the deadline pass, which everything that moved puts off.
    pub(crate) fn poll_deadline(
        &mut self,
        cx: &mut Context<'_>,
        waiting: Waiting,
        moved: bool,
        (ctx, timer): (&Ctx, &mut Timer),
    ) -> Poll<Outcome> {
        if moved || self.waiting != Some(waiting) {
            self.waiting = Some(waiting);
            let limits = &ctx.live.config.limits;
            timer.set(match waiting {
                Waiting::ClientTakes | Waiting::Body => limits.body_timeout,
                Waiting::WorkerTakes => limits.response_timeout,
                Waiting::Answer => ctx.patience,
            });
        }
        ready!(timer.poll(cx));
        Poll::Ready(match waiting {
            Waiting::ClientTakes => Outcome::Cut(None),
            Waiting::WorkerTakes | Waiting::Answer => self.too_slow(),
            Waiting::Body => self.refused(reply::TOO_SLOW),
        })
    }
}

/// The client's side of an answer, however it is written.
pub(crate) trait Sink {
    /// Whether the client is told of interim answers.
    fn takes_interims(&self) -> bool;

    /// Whether the request asks to switch protocols.
    fn may_switch(&self) -> bool;

    /// Writes an interim answer, or the one that switches protocols.
    fn interim(&mut self, answer: &ResponseHead<'_>);

    /// Writes the head; `down.last` says whether the connection should end behind the answer, and is set
    /// where it must.
    fn begin(
        &mut self,
        answer: &ResponseHead<'_>,
        ctx: &Ctx,
        down: &mut ResponseTransfer,
        bodiless: bool,
    );

    /// Writes a piece of the body.
    fn data(&mut self, data: &[u8], writing: Writing);

    /// Ends the body.
    fn finish(&mut self, writing: Writing);
}

/// Who hears what a worker says.
pub(crate) struct Listener<'l, S> {
    pub(crate) gateway: &'l Gateway,
    pub(crate) sink: S,
    pub(crate) head: &'l dyn Head,
    pub(crate) ctx: &'l mut Ctx,
    pub(crate) up: &'l RequestTransfer,
}

impl<S: Sink> Listener<'_, S> {
    /// Something came; nothing where the worker has closed.
    pub(crate) fn hear(&mut self, down: &mut ResponseTransfer, came: &[u8]) -> Result<(), Outcome> {
        if came.is_empty() {
            return self.end(down);
        }
        down.has_begun = true;
        if down.body.is_some() {
            return self.hear_body(down, came);
        }
        if down.partial.is_empty() {
            let taken = self.hear_heads(down, came)?;
            down.partial.extend_from_slice(&came[taken..]);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut down.partial);
        partial.extend_from_slice(came);
        let taken = self.hear_heads(down, &partial)?;
        partial.drain(..taken);
        down.partial = partial;
        Ok(())
    }

    /// Reads heads, interim ones first, and what comes behind them; how much of the bytes that took.
    fn hear_heads(&mut self, down: &mut ResponseTransfer, bytes: &[u8]) -> Result<usize, Outcome> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let understood = colonnade_http1::read(rest, |head, length| {
                self.hear_head(down, head).map(|()| (length, head.status))
            });
            let (length, status) = match understood {
                Ok(Some(understood)) => understood?,
                Ok(None) if rest.len() < HEAD_BYTES_MAX => return Ok(taken),
                Ok(None) | Err(BadAnswer) => return Err(Self::nonsense(down)),
            };
            taken += length;
            if status == 101 {
                down.surplus.extend_from_slice(&bytes[taken..]);
                return Ok(bytes.len());
            }
            if down.body.is_some() {
                self.hear_body(down, &bytes[taken..])?;
                return Ok(bytes.len());
            }
        }
    }

    /// What came is no answer; an answer had not begun.
    fn nonsense(down: &ResponseTransfer) -> Outcome {
        match down.status {
            0 => Outcome::Failed(Attempt::Broken),
            _ => Outcome::Cut(Some(Attempt::Broken)),
        }
    }

    fn hear_head(
        &mut self,
        down: &mut ResponseTransfer,
        answer: &ResponseHead<'_>,
    ) -> Result<(), Outcome> {
        if answer.status < 200 {
            return self.hear_interim(down, answer);
        }
        let replayable = self.up.is_replayable() && !down.hinted;
        let header = |name: &str| answer.header(name);
        let gateway = self.gateway;
        if gateway.is_misdirected(self.ctx, self.head, answer.status, header, replayable) {
            return Err(Outcome::Misdirected);
        }
        if let Some(attempt) = &mut self.ctx.in_flight {
            attempt.unpark();
        }
        if gateway.compression {
            down.shrink = Compressor::new(self.head);
        }
        let bodiless = self.head.method() == "HEAD";
        // A client that still sends its body must not take what follows for another request's answer.
        down.last |= !self.up.is_taken;
        self.sink.begin(answer, self.ctx, down, bodiless);
        down.status = answer.status;
        down.worker_stays = answer.keep_alive && self.up.is_sent();
        down.body = Some(answer.body(bodiless));
        Ok(())
    }

    fn hear_interim(
        &mut self,
        down: &mut ResponseTransfer,
        answer: &ResponseHead<'_>,
    ) -> Result<(), Outcome> {
        down.interims += 1;
        if down.interims > INTERIMS_MAX {
            return Err(Self::nonsense(down));
        }
        match answer.status {
            101 if self.sink.may_switch() && answer.websocket => {
                if let Some(attempt) = &mut self.ctx.in_flight {
                    attempt.unpark();
                }
                self.sink.interim(answer);
                down.status = 101;
            }
            // Nobody asked for it.
            101 => return Err(Self::nonsense(down)),
            // Passed on to who waits for it.
            100 => down.wants_body = true,
            _ if self.sink.takes_interims() => {
                self.sink.interim(answer);
                down.hinted = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn hear_body(&mut self, down: &mut ResponseTransfer, came: &[u8]) -> Result<(), Outcome> {
        let Some(mut body) = down.body else { return Ok(()) };
        let mut taken = 0;
        while taken < came.len() && !body.is_done() {
            let Ok((count, data)) = body.next(&came[taken..]) else {
                return Err(Outcome::Cut(Some(Attempt::Broken)));
            };
            taken += count;
            self.pass_on(down, data, body.is_done());
        }
        // More than was announced: whatever it is, it belongs to nobody.
        down.worker_stays &= taken == came.len();
        let was_done = down.is_done();
        down.body = Some(body);
        if body.is_done() && !was_done {
            self.finish(down);
        }
        Ok(())
    }

    /// The worker has closed.
    fn end(&mut self, down: &mut ResponseTransfer) -> Result<(), Outcome> {
        if down.body != Some(Body::UntilClose) {
            return Err(down.broken());
        }
        self.pass_on(down, &[], true);
        down.worker_stays = false;
        down.body = Some(Body::Done);
        self.finish(down);
        Ok(())
    }

    fn pass_on(&mut self, down: &mut ResponseTransfer, data: &[u8], end: bool) {
        let shrunk = down.shrink.as_mut().map(|filter| filter.piece(data, end));
        let data = shrunk.as_deref().unwrap_or(data);
        down.bytes += data.len();
        self.sink.data(data, down.writing);
    }

    fn finish(&mut self, down: &ResponseTransfer) {
        self.sink.finish(down.writing);
    }
}
