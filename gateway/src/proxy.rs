//! Pingora's phases, in the order a request over HTTP/2 meets them, and nothing else: every decision is
//! made in `front.rs` and below, which know no Pingora. HTTP/1 does not come here (`lean.rs`).

mod answer;
mod attempt;
mod door;
mod head;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::modules::http::compression::ResponseCompressionBuilder;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

pub use door::Door;

use crate::connection::wire_of;
use crate::front::{Answer, Ctx, Ended, Gateway, REFUSED_DRAIN, Verdict};
use crate::head::Head;
use crate::metrics::Attempt;
use crate::reply;
use crate::spans;

/// A stop for Pingora's own loop; ours ends earlier, when the hold is over.
pub const PINGORA_ATTEMPTS_MAX: usize = 200;

/// zlib's 1 of 9: JSON shrinks to a fifth at a tenth of the CPU of the highest.
pub const COMPRESSION_LEVEL: u32 = 1;

/// The gateway as Pingora's phases see it.
pub struct Phases(pub Arc<Gateway>);

/// What is known about a request once its head has been seen.
fn known(ctx: &mut Option<Ctx>) -> Result<&mut Ctx> {
    ctx.as_mut().ok_or_else(|| Error::new_in(ErrorType::InternalError))
}

/// Says whether the request could still be sent to another worker.
fn is_replayable(session: &Session) -> bool {
    !session.as_ref().retry_buffer_truncated() && session.response_written().is_none()
}

#[async_trait]
impl ProxyHttp for Phases {
    type CTX = Option<Ctx>;

    fn new_ctx(&self) -> Option<Ctx> {
        None
    }

    /// No modules but the one asked for: each costs every request.
    fn init_downstream_modules(&self, modules: &mut HttpModules) {
        if self.0.compression {
            modules.add_module(ResponseCompressionBuilder::enable(COMPRESSION_LEVEL));
        }
    }

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut Option<Ctx>,
    ) -> Result<()> {
        let wire = wire_of(session.digest());
        if let Some(wire) = wire {
            wire.serve_request();
        }
        let peer = wire.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |wire| wire.peer);
        let tls = wire.is_some_and(|wire| wire.tls);
        let begun = self.0.begin(session.req_header(), peer, tls);
        session.set_read_timeout(Some(begun.live.config.limits.body_timeout));
        session.set_total_drain_timeout(Some(REFUSED_DRAIN));
        *ctx = Some(begun);
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Option<Ctx>) -> Result<bool> {
        let ctx = known(ctx)?;
        match self.0.admit(session.req_header(), ctx).await {
            Verdict::Forward => return Ok(false),
            Verdict::Here(answer) => answer::write(session, answer).await?,
            Verdict::File(answer) => answer::write_file(session, answer).await?,
            Verdict::Cut(reply) => {
                ctx.refused = Some(reply);
                return Err(Error::new_down(ErrorType::HTTPStatus(reply.status)));
            }
        }
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Option<Ctx>,
    ) -> Result<Box<HttpPeer>> {
        let ctx = known(ctx)?;
        let Some(attempt) = self.0.next_worker(ctx).await else {
            ctx.refused = Some(reply::NO_WORKER);
            return Err(Error::new_up(ErrorType::HTTPStatus(reply::NO_WORKER.status)));
        };
        let peer = attempt::peer(ctx, &attempt.member().address);
        ctx.in_flight = Some(attempt);
        peer
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Option<Ctx>,
    ) -> Result<()> {
        let ctx = known(ctx)?;
        if let Some(client) = &ctx.client {
            request.insert_header("x-forwarded-for", client.forwarded_for.as_str())?;
            request.insert_header("x-forwarded-proto", client.proto)?;
        }
        request.insert_header("x-request-id", ctx.request_id.as_str())?;
        if !ctx.trace_goes_on {
            for name in spans::HEADERS {
                request.remove_header(name);
            }
        }
        for (name, value) in spans::headers(&ctx.span) {
            request.insert_header(name, value)?;
        }
        // Workers get the origin form, whatever form the client chose; the bytes stay the same.
        if !request.raw_path().starts_with(b"/")
            && let Some(target) = session.req_header().target()
        {
            request.set_raw_path(target.as_bytes())?;
        }
        Ok(())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Option<Ctx>,
    ) -> Result<()> {
        let ctx = known(ctx)?;
        ctx.body_bytes += body.as_ref().map_or(0, |piece| piece.len() as u64);
        if ctx.body_bytes > ctx.body_bytes_max {
            ctx.refused = Some(reply::BODY_TOO_LARGE);
            return Err(Error::new_down(ErrorType::HTTPStatus(413)));
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Option<Ctx>,
    ) -> Result<()> {
        if response.status.is_informational() {
            return Ok(());
        }
        let ctx = known(ctx)?;
        if let Some(attempt) = &mut ctx.in_flight {
            attempt.unpark();
        }
        response.insert_header("x-request-id", ctx.request_id.as_str())?;
        if ctx.live.config.cors && !response.headers.contains_key(reply::CORS[0].0) {
            for (name, value) in reply::CORS {
                response.insert_header(name, value)?;
            }
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Option<Ctx>,
    ) -> Result<()> {
        let status = response.status.as_u16();
        let header = |name: &str| response.headers.get(name).map(|value| value.as_bytes());
        let (head, replayable) = (session.req_header(), is_replayable(session));
        if self.0.is_misdirected(known(ctx)?, head, status, header, replayable) {
            return Err(attempt::not_owner());
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Option<Ctx>,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(ctx) = ctx {
            ctx.end_attempt(&self.0, Attempt::NoConnection);
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
        ctx: &mut Option<Ctx>,
        reused: bool,
    ) -> Box<Error> {
        if *error.esource() != ErrorSource::Upstream {
            error.set_retry(false);
            return error;
        }
        let outcome = attempt::outcome_of(&error, reused);
        let replayable = is_replayable(session);
        let repeat = ctx.as_mut().is_some_and(|ctx| {
            ctx.attempt_failed(&self.0, session.req_header(), outcome, replayable)
        });
        error.set_retry(repeat);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Option<Ctx>,
    ) -> FailToProxy {
        let refused = ctx.as_ref().and_then(|ctx| ctx.refused);
        let reply = refused.or_else(|| answer::reply_to(error));
        let (Some(reply), Some(ctx)) = (reply, ctx) else {
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        if session.response_written().is_none() {
            session.set_keepalive(None);
            let _gone = answer::write(session, Answer::of(reply, ctx)).await;
            if error.esource() == &ErrorSource::Downstream {
                // Bounded by the drain timeout; the client may still be sending.
                let _gone = session.as_downstream_mut().drain_request_body().await;
            }
        }
        FailToProxy { error_code: reply.status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Option<Ctx>) {
        let status = session.response_written().map_or(0, |response| response.status.as_u16());
        let attempt = match error {
            Some(error) if *error.esource() == ErrorSource::Upstream => Attempt::Broken,
            Some(_) if status == 0 => Attempt::Abandoned,
            _ => Attempt::Answered,
        };
        if status == 0
            && let Some(wire) = wire_of(session.digest())
        {
            wire.abandon_request();
        }
        if let Some(ctx) = ctx {
            let ended = Ended { status, bytes: session.body_bytes_sent(), attempt };
            self.0.end(session.req_header(), ctx, ended);
        }
    }

    /// Our own log line says what is worth saying.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Option<Ctx>, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Option<Ctx>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}
