//! A worker's answer, on its way to the client: heads are read and written anew, bodies are framed anew,
//! and what is no answer ends the attempt.
//!
//! Invariants:
//! 1. Nothing of the worker's answer reaches the client before its head is whole and understood.
//! 2. What reaches the client ends as a whole answer only if the worker's was whole.

use super::body::{Body, LAST_CHUNK, write_chunk};
use super::client::Client;
use super::exchange::Waiting;
use super::head::RequestHead;
use super::request::Upload;
use super::response::{self, BadAnswer, HEAD_BYTES_MAX, Manner, ResponseHead, Writing};
use super::shrink::Shrink;
use crate::front::{Ctx, Gateway};
use crate::metrics::Attempt;
use crate::reply::Reply;

/// Interim answers to one request; a worker sends one or two.
const INTERIMS_MAX: u32 = 16;

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
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

/// The answer on its way down.
pub(super) struct Down {
    /// Whether the worker's connection had been used before.
    reused: bool,
    /// Whether this is the last answer of the client's connection.
    pub(super) last: bool,
    /// What came and is not understood yet: part of a head.
    partial: Vec<u8>,
    /// None until the head is known.
    pub(super) body: Option<Body>,
    writing: Writing,
    shrink: Option<Box<Shrink>>,
    /// The status told the client, 0 before.
    pub(super) status: u16,
    /// Bytes of the body passed on.
    pub(super) bytes: usize,
    heard: bool,
    interims: u32,
    pub(super) told_to_continue: bool,
    worker_stays: bool,
    /// What came behind the head that switches protocols.
    pub(super) surplus: Vec<u8>,
    pub(super) waiting: Option<Waiting>,
}

impl Down {
    pub(super) fn new(reused: bool, last: bool) -> Self {
        Self {
            reused,
            last,
            partial: Vec::new(),
            body: None,
            writing: Writing::Plain,
            shrink: None,
            status: 0,
            bytes: 0,
            heard: false,
            interims: 0,
            told_to_continue: false,
            worker_stays: false,
            surplus: Vec::new(),
            waiting: None,
        }
    }

    /// Says whether the worker's connection can carry another request.
    pub(super) fn worker_stays(&self) -> bool {
        self.worker_stays
    }

    pub(super) fn is_done(&self) -> bool {
        self.body.is_some_and(Body::is_done)
    }

    /// How the attempt fails when the worker breaks off.
    pub(super) fn broken(&self) -> Outcome {
        match (self.status, self.reused && !self.heard) {
            (0, true) => Outcome::Failed(Attempt::Stale),
            (0, false) => Outcome::Failed(Attempt::Broken),
            _ => Outcome::Cut(Some(Attempt::Broken)),
        }
    }

    pub(super) fn too_slow(&self) -> Outcome {
        match self.status {
            0 => Outcome::Failed(Attempt::TooSlow),
            _ => Outcome::Cut(Some(Attempt::TooSlow)),
        }
    }

    /// How it ends when the client is at fault.
    pub(super) fn refused(&self, reply: Reply) -> Outcome {
        if self.status == 0 { Outcome::Refused(reply) } else { Outcome::Cut(None) }
    }
}

/// Who hears what a worker says.
pub(super) struct Listener<'l> {
    pub(super) gateway: &'l Gateway,
    pub(super) client: &'l mut Client,
    pub(super) head: &'l RequestHead,
    pub(super) ctx: &'l mut Ctx,
    pub(super) up: &'l Upload,
}

impl Listener<'_> {
    /// Something came.
    pub(super) fn hear(&mut self, down: &mut Down, came: &[u8]) -> Result<(), Outcome> {
        down.heard = true;
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
    fn hear_heads(&mut self, down: &mut Down, bytes: &[u8]) -> Result<usize, Outcome> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let heard = response::read(rest, |head, length| {
                self.hear_head(down, head).map(|()| (length, head.status))
            });
            let (length, status) = match heard {
                Ok(Some(heard)) => heard?,
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
    fn nonsense(down: &Down) -> Outcome {
        match down.status {
            0 => Outcome::Failed(Attempt::Broken),
            _ => Outcome::Cut(Some(Attempt::Broken)),
        }
    }

    fn hear_head(&mut self, down: &mut Down, answer: &ResponseHead<'_>) -> Result<(), Outcome> {
        if answer.status < 200 {
            return self.hear_interim(down, answer);
        }
        let replayable = self.up.is_replayable() && down.interims == 0;
        let header = |name: &str| answer.header(name);
        let gateway = self.gateway;
        if gateway.is_misdirected(self.ctx, self.head, answer.status, header, replayable) {
            return Err(Outcome::Misdirected);
        }
        if let Some(attempt) = &mut self.ctx.in_flight {
            attempt.unpark();
        }
        if gateway.compression {
            down.shrink = Shrink::new(self.head);
        }
        let bodiless = crate::head::Head::method(self.head) == "HEAD";
        let manner = Manner { http11: self.head.http11, last: false, bodiless };
        // A client that still sends its body must not take what follows for another request's answer.
        let unread = !self.up.is_taken;
        let shrinks = down.shrink.is_some();
        down.last |= unread || !answer.is_delimited(manner, shrinks);
        // The end may have been announced while this was waited for.
        down.last |= gateway.farewell.is_announced();
        let manner = Manner { last: down.last, ..manner };
        let out = &mut self.client.output;
        down.writing = answer.write(out, self.ctx, manner, &mut down.shrink);
        down.status = answer.status;
        down.worker_stays = answer.keep_alive && self.up.is_sent();
        down.body = Some(answer.body(bodiless));
        Ok(())
    }

    fn hear_interim(&mut self, down: &mut Down, answer: &ResponseHead<'_>) -> Result<(), Outcome> {
        down.interims += 1;
        if down.interims > INTERIMS_MAX {
            return Err(Self::nonsense(down));
        }
        match answer.status {
            101 if self.head.upgrade && answer.websocket => {
                if let Some(attempt) = &mut self.ctx.in_flight {
                    attempt.unpark();
                }
                answer.write_interim(&mut self.client.output);
                down.status = 101;
            }
            // Nobody asked for it.
            101 => return Err(Self::nonsense(down)),
            // Leave to send the body is given here, not there.
            100 => down.interims -= 1,
            _ if self.head.http11 => answer.write_interim(&mut self.client.output),
            _ => {}
        }
        Ok(())
    }

    fn hear_body(&mut self, down: &mut Down, came: &[u8]) -> Result<(), Outcome> {
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
    pub(super) fn end(&mut self, down: &mut Down) -> Result<(), Outcome> {
        if down.body != Some(Body::UntilClose) {
            return Err(down.broken());
        }
        self.pass_on(down, &[], true);
        down.worker_stays = false;
        down.body = Some(Body::Done);
        self.finish(down);
        Ok(())
    }

    fn pass_on(&mut self, down: &mut Down, data: &[u8], end: bool) {
        let out = &mut self.client.output;
        let before = out.len();
        let shrunk = down.shrink.as_mut().map(|filter| filter.piece(data, end));
        let data = shrunk.as_deref().unwrap_or(data);
        match down.writing {
            Writing::Plain => out.extend_from_slice(data),
            Writing::Chunks => write_chunk(out, data),
        }
        down.bytes += out.len() - before;
    }

    fn finish(&mut self, down: &Down) {
        if down.writing == Writing::Chunks {
            self.client.output.extend_from_slice(LAST_CHUNK);
        }
    }
}
