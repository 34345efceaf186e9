//! A request as the listener hands it over, and the one shape of whoever answers it.

use std::{net::IpAddr, pin::Pin, sync::Arc};

use bytes::Bytes;
use colonnade_model::{MatrixError, json};
use colonnade_services::Services;
use http::Request;
use http_body_util::combinators::UnsyncBoxBody;

use crate::reply::Reply;

/// A request body as it comes from the listener.
pub type ByteBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// The address a request came from, put into the request's extensions by the listener.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(pub IpAddr);

/// Says that the client spoke TLS to the proxy in front, put into the request's extensions by the
/// listener.
#[derive(Debug, Clone, Copy)]
pub struct OverTls;

/// Returns where a request came from.
pub(crate) fn address_of(extensions: &http::Extensions) -> Option<IpAddr> {
    extensions.get::<ClientAddress>().map(|address| address.0)
}

/// The largest JSON body: key uploads and account data stay far below.
pub const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) type Answer = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// A handler in the one shape the router knows: services, request, decoded path arguments.
pub type Erased =
    Arc<dyn Fn(Arc<Services>, Request<ByteBody>, Vec<String>) -> Answer + Send + Sync>;

/// Makes sure that a body is a JSON object which can be stored and passed on: the one door for all JSON.
///
/// # Errors
/// `M_NOT_JSON` when it is no JSON, `M_BAD_JSON` when it is no object or breaks the rule of [`json`].
pub(crate) fn require_json(body: &[u8]) -> Result<(), MatrixError> {
    json::check(body)?;
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(MatrixError::bad_json("the body is not a JSON object"));
    }
    Ok(())
}
