//! Answers given at the door instead of a worker's.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::Gateway;
use super::context::Ctx;
use crate::reply::{self, Reply};

impl Gateway {
    /// Answers the request here.
    pub(super) async fn answer(
        &self,
        session: &mut Session,
        ctx: &Ctx,
        reply: Reply,
    ) -> Result<()> {
        let cors = ctx.live.as_ref().is_none_or(|live| live.config.cors);
        let body = reply.body();
        let mut header = ResponseHeader::build(reply.status, Some(8))?;
        for (name, value) in reply.headers(body.len(), cors) {
            header.insert_header(name, value)?;
        }
        if !ctx.request_id.is_empty() {
            header.insert_header("x-request-id", ctx.request_id.as_str())?;
        }
        let bodiless = session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(header), bodiless).await?;
        if !bodiless {
            session.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }

    /// Answers with JSON from the configuration.
    pub(super) async fn answer_json(
        &self,
        session: &mut Session,
        ctx: &Ctx,
        json: Bytes,
    ) -> Result<()> {
        let mut header = ResponseHeader::build(200, Some(8))?;
        header.insert_header("content-type", "application/json")?;
        header.insert_header("content-length", json.len())?;
        header.insert_header("x-request-id", ctx.request_id.as_str())?;
        for (name, value) in reply::CORS {
            header.insert_header(name, value)?;
        }
        let bodiless = session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(header), bodiless).await?;
        if !bodiless {
            session.write_response_body(Some(json), true).await?;
        }
        Ok(())
    }

    /// Answers a preflight: any path, so that a browser learns of a 404 instead of a CORS failure.
    pub(super) async fn answer_preflight(&self, session: &mut Session, ctx: &Ctx) -> Result<()> {
        let mut header = ResponseHeader::build(204, Some(8))?;
        for (name, value) in reply::CORS {
            header.insert_header(name, value)?;
        }
        header.insert_header("access-control-max-age", reply::PREFLIGHT_MAX_AGE_S)?;
        header.insert_header("x-request-id", ctx.request_id.as_str())?;
        session.write_response_header(Box::new(header), true).await
    }
}

/// The reply to a failure nobody refused on purpose; none when the client is gone.
pub(super) fn reply_to(error: &Error) -> Option<Reply> {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(status)) => Some(Reply::for_status(*status)),
        (ErrorSource::Upstream, ErrorType::ReadTimedout | ErrorType::WriteTimedout) => {
            Some(reply::WORKER_TOO_SLOW)
        }
        (ErrorSource::Upstream, _) => Some(reply::BAD_WORKER),
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(reply::TOO_SLOW),
        (
            ErrorSource::Downstream,
            ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed,
        ) => None,
        (ErrorSource::Downstream, _) => Some(reply::MALFORMED),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(reply::INTERNAL),
    }
}
