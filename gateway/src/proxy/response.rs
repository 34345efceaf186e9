//! A worker's answer on its way to the client: what is passed on, what the gateway adds, and answers the
//! gateway gives itself.

use colonnade_http1::{AnswerFraming, ResponseHead, Writing, end_head, header, status_line};

use super::compression::Compressor;
use crate::pipeline::{Answer, Ctx, own_headers, reply};

/// The headers of a worker's answer that the client gets.
fn passed_on<'h>(head: &'h ResponseHead<'_>) -> impl Iterator<Item = (&'h str, &'h [u8])> {
    head.headers().filter(|(name, _)| own_headers::passes_in_answer(name))
}

/// Gives out the headers as the client gets them, but for what frames the body on HTTP/1; takes the
/// filter away that finds nothing to do.
pub(crate) fn each(
    head: &ResponseHead<'_>,
    ctx: &Ctx,
    bodiless: bool,
    shrink: &mut Option<Box<Compressor>>,
    put: &mut dyn FnMut(&str, &[u8]),
) {
    let ends = head.body(bodiless).is_done();
    each_of((head.status, ends), passed_on(head), ctx, shrink, put);
}

/// The same for headers that have been read and chosen: those of an answer with this status, whose body is
/// empty where `ends`.
pub(crate) fn each_of<'h>(
    (status, ends): (u16, bool),
    passed_on: impl Iterator<Item = (&'h str, &'h [u8])>,
    ctx: &Ctx,
    shrink: &mut Option<Box<Compressor>>,
    put: &mut dyn FnMut(&str, &[u8]),
) {
    let mut seen_cors = false;
    let mut pass = |name: &str, value: &[u8]| {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            // Where there is no body, 204 may not even tell a length (RFC 9110 §8.6).
            14 if status == 204 && is("content-length") => return,
            27 if is(reply::CORS[0].0) => seen_cors = true,
            _ => {}
        }
        put(name, value);
    };
    match shrink {
        Some(filter) => filter.headers(status, passed_on, ends, &mut pass),
        None => passed_on.for_each(|(name, value)| pass(name, value)),
    }
    if shrink.as_ref().is_some_and(|filter| !filter.is_at_work()) {
        *shrink = None;
    }
    put("x-request-id", ctx.request_id.as_bytes());
    if ctx.live.config.cors && !seen_cors {
        for (name, value) in reply::CORS {
            put(name, value.as_bytes());
        }
    }
}

/// Writes it for the client; says how the body is to be written.
pub(crate) fn write(
    head: &ResponseHead<'_>,
    out: &mut Vec<u8>,
    ctx: &Ctx,
    manner: AnswerFraming,
    shrink: &mut Option<Box<Compressor>>,
) -> Writing {
    status_line(out, head.status, head.reason());
    let mut has_length = false;
    each(head, ctx, manner.bodiless, shrink, &mut |name, value| {
        has_length |= name.len() == 14 && name.eq_ignore_ascii_case("content-length");
        header(out, name, value);
    });
    let chunks = !has_length && manner.http11 && head.has_body(manner.bodiless);
    if chunks {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    let endless = !has_length && !chunks && head.has_body(manner.bodiless);
    end_head(out, AnswerFraming { last: manner.last || endless, ..manner });
    let done = head.body(manner.bodiless).is_done();
    if chunks && !done { Writing::Chunks } else { Writing::Plain }
}

/// The headers of an interim answer, which has no body to tell the length of (RFC 9110 §8.6).
pub(crate) fn interim_headers<'h>(
    head: &'h ResponseHead<'_>,
) -> impl Iterator<Item = (&'h str, &'h [u8])> {
    passed_on(head).filter(|(name, _)| !name.eq_ignore_ascii_case("content-length"))
}

/// Writes an interim answer, or the one that switches protocols, as it is.
pub(crate) fn write_interim(head: &ResponseHead<'_>, out: &mut Vec<u8>) {
    status_line(out, head.status, head.reason());
    interim_headers(head).for_each(|(name, value)| header(out, name, value));
    if head.status == 101 {
        out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer made at the door.
pub(crate) fn write_head<'h>(
    out: &mut Vec<u8>,
    status: u16,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    manner: AnswerFraming,
) {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason());
    status_line(out, status, reason.unwrap_or_default());
    headers.for_each(|(name, value)| header(out, name, value));
    end_head(out, manner);
}

/// Writes a whole answer made at the door; how many bytes of it are body.
pub(crate) fn write_answer(out: &mut Vec<u8>, answer: &Answer, manner: AnswerFraming) -> usize {
    let headers = answer.headers.iter().map(|(name, value)| (*name, value.as_bytes()));
    write_head(out, answer.status, headers, manner);
    if manner.bodiless || answer.status == 204 {
        return 0;
    }
    out.extend_from_slice(&answer.body);
    answer.body.len()
}
