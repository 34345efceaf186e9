//! Answers given at the door, written through Pingora.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, OrErr, Result};

use crate::front::{Answer, FileAnswer};
use crate::reply::{self, Reply};

/// Writes a whole answer.
pub(super) async fn write(session: &mut Session, answer: Answer) -> Result<()> {
    let mut header = ResponseHeader::build(answer.status, Some(8))?;
    for (name, value) in &answer.headers {
        header.insert_header(*name, value.as_ref())?;
    }
    let bodiless = session.req_header().method == http::Method::HEAD || answer.status == 204;
    session.write_response_header(Box::new(header), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(answer.body), true).await?;
    }
    Ok(())
}

/// Writes a file, as much as was announced; one that shrinks meanwhile ends the stream.
pub(super) async fn write_file(session: &mut Session, answer: FileAnswer) -> Result<()> {
    let mut header = ResponseHeader::build(answer.status, Some(8))?;
    for (name, value) in &answer.headers {
        header.insert_header(*name, value.as_ref())?;
    }
    let Some((mut file, mut left)) = answer.file else {
        return session.write_response_header(Box::new(header), true).await;
    };
    session.write_response_header(Box::new(header), false).await?;
    if left == 0 {
        return session.write_response_body(Some(Bytes::new()), true).await;
    }
    while left > 0 {
        let piece;
        (file, piece) =
            FileAnswer::read(file, left).await.or_err(ErrorType::ReadError, "reading a file")?;
        left -= piece.len() as u64;
        session.write_response_body(Some(piece.into()), left == 0).await?;
    }
    Ok(())
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
