//! An attempt at a worker in Pingora's terms: where it goes, how it failed, and which answers are none. Pingora's
//! reader of answers takes more for HTTP than ours does; what of that is still to be seen is refused here.

use pingora::http::ResponseHeader;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType, Result};

use crate::config::Address;
use crate::metrics::Attempt;
use crate::pipeline::{Ctx, WORKER_IDLE};
use colonnade_http1::{HEAD_BYTES_MAX, hop_by_hop, length};

/// Interim answers to one request; a worker sends one or two.
pub(super) const INTERIMS_MAX: u32 = 16;

/// Header lines in an answer.
const LINES_MAX: usize = 128;

/// A worker answered that another one owns what is asked for.
const NOT_OWNER: ErrorType = ErrorType::Custom("NotOwner");

/// Makes the error that sends a request on to the owner.
pub(super) fn not_owner() -> Box<Error> {
    Error::new_up(NOT_OWNER)
}

/// Makes the error for what is no answer.
pub(super) fn no_answer() -> Box<Error> {
    Error::new_up(ErrorType::InvalidHTTPHeader)
}

/// How an attempt failed, read from Pingora's error; `resting` says that the connection had rested before, and
/// nothing has been heard on it since.
pub(super) fn outcome_of(error: &Error, resting: bool) -> Attempt {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Attempt::TooSlow,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => Attempt::NoConnection,
        kind if *kind == NOT_OWNER => Attempt::NotOwner,
        ErrorType::WriteError if resting => Attempt::Stale,
        ErrorType::ReadError | ErrorType::ConnectionClosed if resting && is_silent(error) => {
            Attempt::Stale
        }
        _ => Attempt::Broken,
    }
}

/// Says whether reading failed before anything of a head had come. Type, cause and retry of the error are the same
/// when half a head had: Pingora 0.9.1 tells it in the words alone, and `tests` fails where those change. An error
/// with other words is one of a worker that has begun to answer, so that nothing is done twice for want of them.
fn is_silent(error: &Error) -> bool {
    let said = error.context.as_ref().map_or("", |said| said.as_str());
    said.ends_with("bytes already read: 0")
}

/// Builds what Pingora needs to reach a worker.
pub(super) fn peer(ctx: &Ctx, to: &Address, upgrade: bool) -> Result<Box<HttpPeer>> {
    let mut peer = match to {
        Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?,
    };
    let limits = &ctx.live.config.limits;
    peer.options.connection_timeout = Some(limits.connect_timeout);
    peer.options.total_connection_timeout = Some(limits.connect_timeout);
    // It is one for the whole attempt, and a tunnel may rest as long as a long poll.
    let patience = if upgrade { limits.long_poll_timeout } else { ctx.patience };
    peer.options.read_timeout = Some(patience);
    peer.options.write_timeout = Some(limits.response_timeout);
    peer.options.idle_timeout = Some(WORKER_IDLE);
    // What goes on is written anew in a phase.
    // Connections rest with the pool they were made for, as health and counts do.
    let pool = ctx.pool.as_ref().map_or(&b""[..], |pool| pool.name.as_bytes());
    peer.group_key = u64::from(crc32fast::hash(pool));
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::preserve();
    Ok(Box::new(peer))
}

/// Says whether our own reader would take a head for an answer's (`gateway/http1/src/response.rs`). What
/// Pingora has taken off it already is not seen: bare line feeds, folded lines, and a length beside chunks.
pub(super) fn is_answer(head: &ResponseHeader) -> bool {
    let all = |name: &str| head.headers.get_all(name).iter().count();
    let bytes: usize =
        head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let mut lengths = head.headers.get_all("content-length").iter();
    let codings = head.headers.get_all("transfer-encoding");
    let mut codings = codings.iter();
    head.headers.len() <= LINES_MAX
        && bytes <= HEAD_BYTES_MAX
        && all("content-length") <= 1
        && lengths.all(|value| length(value.as_bytes()).is_some())
        && all("transfer-encoding") <= 1
        && codings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"))
        && (head.version == http::Version::HTTP_11 || all("transfer-encoding") == 0)
}

/// Says whether it agrees to speak WebSocket.
pub(super) fn is_websocket(head: &ResponseHeader) -> bool {
    let agrees = head.headers.get_all("connection").iter();
    let mut agrees = agrees.map(|value| hop_by_hop::names(value.as_bytes(), "upgrade"));
    let upgrade = head.headers.get("upgrade");
    agrees.any(|agrees| agrees)
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The headers of a worker's answer that are not the connection's own.
pub(super) fn passed_on(head: &ResponseHeader) -> Vec<(String, Vec<u8>)> {
    let lists: Vec<&[u8]> =
        head.headers.get_all("connection").iter().map(|value| value.as_bytes()).collect();
    let headers = head.headers.iter();
    headers
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| !hop_by_hop::stays(name, lists.iter().copied()))
        .filter(|(name, _)| crate::pipeline::own_headers::passes_in_answer(name))
        .map(|(name, value)| (name.to_owned(), value.to_vec()))
        .collect()
}

#[cfg(test)]
mod tests;
