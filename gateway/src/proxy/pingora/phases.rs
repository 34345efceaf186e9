//! Pingora's phases, in the order a request meets them, and nothing else: every decision is made in `pipeline`,
//! which knows no Pingora.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::answer;
use super::begun::{Begun, State, status};
use super::head::ClientHead;
use super::shared::SharedConnection;
use super::worker;
use crate::metrics::{Attempt, Refused};
use crate::pipeline::reply;
use crate::pipeline::{Answer, Disposition, Ended, Gateway, REFUSED_DRAIN};
use crate::proxy::http2::head::StreamHead;

/// The gateway as Pingora's phases see it.
pub(super) struct Phases(pub(super) Arc<Gateway>);

#[async_trait]
impl ProxyHttp for Phases {
    type CTX = State;

    fn new_ctx(&self) -> State {
        State::default()
    }

    /// None: each costs every request, and compression is the engines' common one.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, state: &mut State) -> Result<()> {
        let shared = SharedConnection::of(session.digest());
        let shared = shared.ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
        let head = if session.as_downstream().is_http2() {
            shared.client.begin();
            let ends = session.as_downstream_mut().is_body_done();
            let parts = session.req_header().as_owned_parts();
            let head = StreamHead::new(parts, ends).map_err(|reply| state.refuse(reply))?;
            ClientHead::Http2(Box::new(head))
        } else {
            let head = shared.serve().ok_or_else(|| Error::new_in(ErrorType::InternalError))?;
            ClientHead::Http1(Box::new(head))
        };
        let ctx = self.0.begin(&head, shared.client.peer, shared.client.tls);
        let limits = &ctx.live.config.limits;
        session.set_read_timeout(Some(limits.body_timeout));
        session.set_write_timeout(Some(limits.body_timeout));
        session.set_total_drain_timeout(Some(REFUSED_DRAIN));
        session.set_ignore_info_resp(head.is_http10());
        let kept = self.0.bodies.share(limits.kept_body_bytes);
        state.begun = Some(Box::new(Begun {
            head,
            ctx,
            shared,
            shrink: None,
            is_heard: false,
            interims: 0,
            hinted: false,
            continue_sent: false,
            kept,
        }));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, state: &mut State) -> Result<bool> {
        let exchange = state.begun()?;
        let Begun { head, ctx, .. } = &mut *exchange;
        match self.0.admit(head, ctx).await {
            Disposition::Forward => return Ok(false),
            Disposition::Here(answer) => answer::write(session, exchange, answer, false).await?,
            Disposition::File(file) => {
                answer::write_file(session, exchange, self.0.compression, file).await?;
            }
            Disposition::Cut(reply) => return Err(state.refuse(reply)),
        }
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        state: &mut State,
    ) -> Result<Box<HttpPeer>> {
        let Begun { head, ctx, .. } = state.begun()?;
        let next = self.0.next_worker(ctx);
        // A client that goes away while it waits takes its request with it. A stream whose connection is gone says
        // that its body is not done, however it was sent: so over HTTP/2 it is the stream that is asked.
        let next = match session.as_downstream_mut() {
            ServerSession::H2(stream) => tokio::select! {
                next = next => next,
                gone = stream.idle() => return Err(gone_away(gone.err())),
            },
            downstream => match downstream.is_body_done() {
                true => tokio::select! {
                    next = next => next,
                    gone = downstream.read_body_or_idle(true) => return Err(gone_away(gone.err())),
                },
                false => next.await,
            },
        };
        let Some(attempt) = next else {
            return Err(state.refuse(reply::NO_WORKER));
        };
        let peer = worker::peer(ctx, &attempt.member().address, head.upgrade());
        ctx.in_flight = Some(attempt);
        peer
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::fd::RawFd,
        _digest: Option<&Digest>,
        state: &mut State,
    ) -> Result<()> {
        let exchange = state.begun()?;
        exchange.is_heard = false;
        if let (Some(attempt), false) = (&exchange.ctx.in_flight, exchange.head.is_http2()) {
            exchange.shared.watch(attempt.member());
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        state: &mut State,
    ) -> Result<()> {
        let Begun { head, ctx, .. } = state.begun()?;
        *request = head.for_worker(ctx)?;
        // What has come of the body is sent again from its beginning, and counted again.
        ctx.body_bytes = 0;
        Ok(())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        state: &mut State,
    ) -> Result<()> {
        let Begun { ctx, shared, kept, .. } = state.begun()?;
        ctx.body_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        if session.as_ref().retry_buffer_truncated() || shared.has_switched() {
            kept.give_back();
        } else if !kept.reaches(usize::try_from(ctx.body_bytes).unwrap_or(usize::MAX)) {
            // Pingora has no way to pass a body on without keeping its beginning.
            return Err(state.refuse(reply::NO_WORKER));
        }
        if ctx.body_bytes > ctx.body_bytes_max && !shared.has_switched() {
            return Err(state.refuse(reply::BODY_TOO_LARGE));
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        state: &mut State,
    ) -> Result<()> {
        let exchange = state.begun()?;
        exchange.is_heard = true;
        if !worker::is_answer(response) {
            return Err(worker::no_answer());
        }
        let status = response.status.as_u16();
        if response.status.is_informational() {
            exchange.interims += 1;
            let may_switch = exchange.head.upgrade() && worker::is_websocket(response);
            if exchange.interims > worker::INTERIMS_MAX || (status == 101 && !may_switch) {
                return Err(worker::no_answer());
            }
            exchange.hinted |= status > 101 && !exchange.head.is_http10();
            if status == 100 && !exchange.head.is_http10() {
                let waits = exchange.head.expects_continue()
                    && !session.as_downstream_mut().is_body_done()
                    && !std::mem::replace(&mut exchange.continue_sent, true);
                if waits {
                    // Pingora takes it for an answer that comes before the body, and would end the connection.
                    session.set_close_on_response_before_downstream_finish(false);
                } else {
                    exchange.shared.hold_back_continue();
                }
            }
            return Ok(());
        }
        let replayable = exchange.is_replayable(session);
        let header = |name: &str| response.headers.get(name).map(|value| value.as_bytes());
        let Begun { head, ctx, .. } = exchange;
        if self.0.is_misdirected(ctx, head, status, header, replayable) {
            return Err(worker::not_owner());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        state: &mut State,
    ) -> Result<()> {
        let exchange = state.begun()?;
        let status = response.status.as_u16();
        if (status >= 200 || status == 101)
            && let Some(attempt) = &mut exchange.ctx.in_flight
        {
            attempt.unpark();
        }
        if status == 101 {
            exchange.shared.switch();
            exchange.shared.unwatch();
            let rest = exchange.ctx.live.config.limits.long_poll_timeout;
            session.set_read_timeout(Some(rest));
        } else if exchange.is_last() {
            session.set_keepalive(None);
        }
        if status >= 200 {
            session.set_close_on_response_before_downstream_finish(true);
        }
        if status >= 200 && exchange.head.upgrade() {
            exchange.shared.decline();
            session.set_close_on_response_before_downstream_finish(false);
        }
        if answer::rewrite(session, exchange, self.0.compression, response)? {
            exchange.shared.answer();
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        state: &mut State,
    ) -> Result<Option<Duration>> {
        let Begun { shrink, shared, .. } = state.begun()?;
        if let Some(filter) = shrink {
            let data = body.take().unwrap_or_default();
            *body = Some(filter.piece(&data, end));
        }
        if end {
            shared.answer();
        }
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        state: &mut State,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(exchange) = &mut state.begun {
            exchange.ctx.end_attempt(&self.0, Attempt::NoConnection);
        }
        // The next phase decides who is asked then, and when to give up.
        error.set_retry(true);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        state: &mut State,
        reused: bool,
    ) -> Box<Error> {
        error.set_retry(false);
        let Some(exchange) = &mut state.begun else { return error };
        exchange.shared.unwatch();
        let marked_down = exchange.shared.was_marked_down();
        let outcome = match *error.esource() {
            _ if marked_down => Attempt::Broken,
            ErrorSource::Upstream => worker::outcome_of(&error, reused && !exchange.is_heard),
            _ => return error,
        };
        if outcome == Attempt::TooSlow && !session.as_downstream_mut().is_body_done() {
            // The worker waits for the client's body: that is not its fault.
            exchange.ctx.end_attempt(&self.0, Attempt::Abandoned);
            state.refused = Some(reply::TOO_SLOW);
            return error;
        }
        let replayable = exchange.is_replayable(session);
        let Begun { head, ctx, .. } = &mut **exchange;
        match ctx.attempt_failed(&self.0, head, outcome, replayable) {
            Ok(()) => error.set_retry(true),
            Err(reply) => state.refused = Some(reply),
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        state: &mut State,
    ) -> FailToProxy {
        let ended = |error_code| FailToProxy { error_code, can_reuse_downstream: false };
        let malformed = state.begun.as_ref().is_some_and(|begun| begun.shared.is_malformed());
        let reply = state.refused.or_else(|| match malformed {
            true => Some(reply::MALFORMED),
            false => answer::reply_to(error),
        });
        if status(session) != 0 {
            let Some(exchange) = state.begun.as_ref() else { return ended(0) };
            let cut = !exchange.shared.is_answered();
            if cut && exchange.head.is_http10() {
                // The connection's end may be all that tells the body's.
                exchange.shared.abort();
            } else if !exchange.head.is_http2() {
                // What has been written leaves, and the client may still be sending what nobody wants.
                session.as_downstream_mut().shutdown().await;
            }
            return ended(0);
        }
        let Some(reply) = reply else { return ended(0) };
        let written = match &state.begun {
            Some(exchange) => {
                let answer = Answer::of(reply, &exchange.ctx);
                answer::write(session, exchange, answer, true).await
            }
            None => {
                self.0.metrics.refused(Refused::of_head(reply));
                let body = reply.body();
                let headers = reply.headers(body.len(), true);
                let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
                answer::write_bytes(session, reply.status, headers, body).await
            }
        };
        if written.is_ok() {
            let downstream = session.as_downstream_mut();
            match downstream.is_http2() {
                // Many take the reset that would tell them to stop for a failure, and never look at the answer.
                true => drop(downstream.drain_request_body().await),
                false => downstream.shutdown().await,
            }
        }
        ended(reply.status)
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, state: &mut State) {
        let status = status(session);
        let Some(exchange) = &mut state.begun else { return };
        exchange.shared.unwatch();
        let attempt = match error {
            Some(error) if *error.esource() == ErrorSource::Upstream => Attempt::Broken,
            Some(_) if status == 0 || exchange.ctx.worker.is_none() && state.refused.is_some() => {
                Attempt::Abandoned
            }
            _ => Attempt::Answered,
        };
        if status == 0 {
            exchange.shared.client.abandon();
        }
        let ended = Ended { status, bytes: session.as_downstream().body_bytes_sent(), attempt };
        let Begun { head, ctx, .. } = &mut **exchange;
        self.0.end(head, ctx, ended);
    }

    /// Our own log line says what is worth saying.
    fn suppress_error_log(&self, _session: &Session, _state: &State, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _state: &State,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// The error of a request whose client is gone.
fn gone_away(error: Option<Box<Error>>) -> Box<Error> {
    error.unwrap_or_else(|| Error::new(ErrorType::ConnectionClosed)).into_down()
}
