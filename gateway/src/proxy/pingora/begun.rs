//! What is known about a request in its phases.

use std::sync::Arc;

use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::head::ClientHead;
use super::shared::SharedConnection;
use crate::pipeline::Ctx;
use crate::pipeline::replay_memory::ReplayPermit;
use crate::pipeline::reply::Reply;
use crate::proxy::compression::Compressor;

/// A request once its head has been seen.
pub(super) struct Begun {
    pub(super) head: ClientHead,
    pub(super) ctx: Ctx,
    pub(super) shared: Arc<SharedConnection>,
    pub(super) shrink: Option<Box<Compressor>>,
    /// Whether the worker has said anything, in this attempt.
    pub(super) is_heard: bool,
    pub(super) interims: u32,
    /// Whether the client has been told anything already.
    pub(super) hinted: bool,
    pub(super) continue_sent: bool,
    /// What Pingora keeps of the body, to send it again.
    pub(super) kept: ReplayPermit,
}

impl Begun {
    /// Says whether this is the connection's last answer.
    pub(super) fn is_last(&self) -> bool {
        !self.head.keep_alive() || self.shared.ending.is_announced()
    }

    /// Says whether the request could still be sent to another worker.
    pub(super) fn is_replayable(&self, session: &Session) -> bool {
        !session.as_ref().retry_buffer_truncated() && status(session) == 0 && !self.hinted
    }
}

/// What is known about a request, from its first phase on.
#[derive(Default)]
pub(super) struct State {
    pub(super) begun: Option<Box<Begun>>,
    pub(super) refused: Option<Reply>,
}

impl State {
    pub(super) fn begun(&mut self) -> Result<&mut Begun> {
        self.begun.as_deref_mut().ok_or_else(|| Error::new_in(ErrorType::InternalError))
    }

    /// Ends the request with this reply.
    pub(super) fn refuse(&mut self, reply: Reply) -> Box<Error> {
        self.refused = Some(reply);
        Error::new_down(ErrorType::HTTPStatus(reply.status))
    }
}

/// The status the client has been told, 0 before.
pub(super) fn status(session: &Session) -> u16 {
    let response = session.response_written().map(|response| response.status);
    let last = response.filter(|s| !s.is_informational() || s.as_u16() == 101);
    last.map_or(0, |status| status.as_u16())
}
