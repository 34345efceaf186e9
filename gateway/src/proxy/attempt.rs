//! An attempt at a worker in Pingora's terms.

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::config::Address;
use crate::front::{Ctx, WORKER_IDLE};
use crate::metrics::Attempt;

/// How an attempt failed, read from Pingora's error.
pub(super) fn outcome_of(error: &Error, reused: bool) -> Attempt {
    match error.etype() {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Attempt::TooSlow,
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError => Attempt::NoConnection,
        _ if is_not_owner(error) => Attempt::NotOwner,
        _ if reused => Attempt::Stale,
        _ => Attempt::Broken,
    }
}

/// A worker answered that another one owns what is asked for.
const NOT_OWNER: ErrorType = ErrorType::Custom("NotOwner");

/// Makes the error that sends a request on to the owner.
pub(super) fn not_owner() -> Box<Error> {
    Error::new_up(NOT_OWNER)
}

fn is_not_owner(error: &Error) -> bool {
    *error.etype() == NOT_OWNER
}

/// Builds what Pingora needs to reach a worker.
pub(super) fn peer(ctx: &Ctx, to: &Address) -> Result<Box<HttpPeer>> {
    let mut peer = match to {
        Address::Tcp(address) => HttpPeer::new(address, false, String::new()),
        Address::Unix(path) => HttpPeer::new_uds(&path.to_string_lossy(), false, String::new())?,
    };
    let limits = &ctx.live.config.limits;
    peer.options.connection_timeout = Some(limits.connect_timeout);
    peer.options.total_connection_timeout = Some(limits.connect_timeout);
    peer.options.read_timeout = Some(ctx.patience);
    peer.options.write_timeout = Some(limits.response_timeout);
    peer.options.idle_timeout = Some(WORKER_IDLE);
    Ok(Box::new(peer))
}
