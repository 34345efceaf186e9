//! Answers given at the door, and workers' answers as clients get them, written through Pingora.

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, OrErr, Result};

use super::begun::Begun;
use super::worker::passed_on;
use crate::pipeline::reply::{self, Reply};
use crate::pipeline::{Answer, FileAnswer, UNWANTED_BODY_MAX};
use crate::proxy::compression::Compressor;
use crate::proxy::response;
use crate::routing::head::Head;
use colonnade_http1::Framing;

/// Writes a whole answer; `cut` says that the connection ends with it.
pub(super) async fn write(
    session: &mut Session,
    exchange: &Begun,
    answer: Answer,
    cut: bool,
) -> Result<()> {
    prepare(session, exchange, cut);
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_ref()));
    write_bytes(session, answer.status, headers, answer.body).await
}

/// Writes an answer, with these headers.
pub(super) async fn write_bytes<'h>(
    session: &mut Session,
    status: u16,
    headers: impl Iterator<Item = (&'h str, &'h str)>,
    body: Bytes,
) -> Result<()> {
    let mut head = ResponseHeader::build(status, Some(8))?;
    for (name, value) in headers {
        head.append_header(name.to_owned(), value)?;
    }
    let bodiless = session.req_header().method == http::Method::HEAD || body.is_empty();
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Decides what becomes of the connection behind an answer that is given before the body has come.
fn prepare(session: &mut Session, exchange: &Begun, cut: bool) {
    let small = match exchange.head.framing() {
        Framing::Empty => true,
        // It may come or not.
        _ if exchange.head.expects_continue() => false,
        Framing::Length(length) => length <= UNWANTED_BODY_MAX,
        Framing::Chunked => false,
    };
    if cut || !small || exchange.is_last() {
        session.set_keepalive(None);
    } else {
        // What is left of the body is read and thrown away then.
        session.set_close_on_response_before_downstream_finish(false);
    }
}

/// Writes a file, as much as was announced; one that shrinks meanwhile ends the connection.
pub(super) async fn write_file(
    session: &mut Session,
    exchange: &Begun,
    compression: bool,
    answer: FileAnswer,
) -> Result<()> {
    let mut shrink = match &answer.file {
        Some(_) if compression => Compressor::new(&exchange.head),
        _ => None,
    };
    prepare(session, exchange, exchange.head.framing() != Framing::Empty);
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    let mut becoming: Vec<(String, Vec<u8>)> = Vec::new();
    let mut put = |name: &str, value: &[u8]| becoming.push((name.to_owned(), value.to_vec()));
    let empty = answer.file.as_ref().is_none_or(|(_, length)| *length == 0);
    match &mut shrink {
        Some(filter) => filter.headers(answer.status, headers, empty, &mut put),
        None => headers.for_each(|(name, value)| put(name, value)),
    }
    shrink = shrink.filter(|filter| filter.is_at_work());
    let mut head = ResponseHeader::build(answer.status, Some(8))?;
    append(&mut head, becoming)?;
    if shrink.is_some() {
        frame(session, exchange, &mut head, true)?;
    }
    let Some((mut file, mut left)) = answer.file.filter(|(_, left)| *left > 0) else {
        return session.write_response_header(Box::new(head), true).await;
    };
    session.write_response_header(Box::new(head), false).await?;
    while left > 0 {
        let piece;
        (file, piece) =
            FileAnswer::read(file, left).await.or_err(ErrorType::FileReadError, "a static file")?;
        left -= piece.len() as u64;
        let piece = match &mut shrink {
            Some(filter) => filter.piece(&piece, left == 0),
            None => Bytes::from(piece),
        };
        if !piece.is_empty() || left == 0 {
            session.write_response_body(Some(piece), left == 0).await?;
        }
    }
    Ok(())
}

fn append(head: &mut ResponseHeader, headers: Vec<(String, Vec<u8>)>) -> Result<()> {
    for (name, value) in headers {
        head.append_header(name, value)?;
    }
    Ok(())
}

/// Says how a body is framed whose length is not told; on HTTP/1.0 the connection's end tells it.
fn frame(
    session: &mut Session,
    exchange: &Begun,
    head: &mut ResponseHeader,
    has_body: bool,
) -> Result<()> {
    if !has_body || head.headers.contains_key("content-length") || exchange.head.is_http2() {
        return Ok(());
    }
    match exchange.head.is_http10() {
        true => session.set_keepalive(None),
        false => head.insert_header("transfer-encoding", "chunked")?,
    }
    Ok(())
}

/// Makes a worker's answer what the client gets; says whether nothing follows its head.
pub(super) fn rewrite(
    session: &mut Session,
    exchange: &mut Begun,
    compression: bool,
    head: &mut ResponseHeader,
) -> Result<bool> {
    let status = head.status.as_u16();
    let passed = passed_on(head);
    let mut fresh = ResponseHeader::build(status, Some(passed.len() + 4))?;
    fresh.set_reason_phrase(head.get_reason_phrase())?;
    if head.status.is_informational() {
        let passed = passed.into_iter().filter(|(name, _)| name != "content-length");
        append(&mut fresh, passed.collect())?;
        if status == 101 {
            fresh.append_header("connection", "Upgrade")?;
            fresh.append_header("upgrade", "websocket")?;
        }
        *head = fresh;
        return Ok(false);
    }
    let bodiless = exchange.head.method() == "HEAD" || matches!(status, 204 | 304);
    let empty = passed.iter().any(|(name, value)| name == "content-length" && value == b"0");
    let ends = bodiless || (empty && !head.headers.contains_key("transfer-encoding"));
    if compression {
        exchange.shrink = Compressor::new(&exchange.head);
    }
    let mut becoming: Vec<(String, Vec<u8>)> = Vec::with_capacity(passed.len() + 4);
    let headers = passed.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
    let mut put = |name: &str, value: &[u8]| becoming.push((name.to_owned(), value.to_vec()));
    let Begun { ctx, shrink, .. } = exchange;
    response::each_of((status, ends), headers, ctx, shrink, &mut put);
    append(&mut fresh, becoming)?;
    frame(session, exchange, &mut fresh, !bodiless)?;
    *head = fresh;
    Ok(ends)
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
            ErrorType::WriteError
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            | ErrorType::WriteTimedout
            | ErrorType::H2Error,
        ) => None,
        (ErrorSource::Downstream, _) => Some(reply::MALFORMED),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(reply::INTERNAL),
    }
}
