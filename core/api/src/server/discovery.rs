//! What anybody may know of this server: what it runs, and where other servers find it.

use std::sync::Arc;

use colonnade_model::{
    MatrixError, ruma::api::federation::discovery::get_server_version::v1 as get_server_version,
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use http::{Method, Request};
use serde_json::{Value, json};

use super::endpoint::require_federation;
use crate::{
    call::Call,
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_server_version::Request, _>(version);
    table.add_raw(Method::GET, "/.well-known/matrix/server", well_known);
    table.add_raw(Method::GET, "/.well-known/matrix/policy_server", policy_server);
}

async fn version(call: Call<get_server_version::Request, ()>) -> Result<Value> {
    require_federation(&call.services)?;
    Ok(json!({ "server": { "name": "Colonnade", "version": env!("CARGO_PKG_VERSION") } }))
}

async fn well_known(
    services: Arc<Services>,
    _request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    require_federation(&services)?;
    let Some(server) = &services.context.settings.federation.well_known_server else {
        let why = "federation.well_known_server is not configured here";
        return Err(MatrixError::not_found(why).into());
    };
    Ok(reply::ok(&json!({ "m.server": server })))
}

/// Tells the key of a policy server that answers under this server's name, by whatever answers it.
///
/// Source: Matrix v1.19, client-server, `GET /.well-known/matrix/policy_server`.
async fn policy_server(
    services: Arc<Services>,
    _request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    require_federation(&services)?;
    let Some(key) = &services.context.settings.federation.well_known_policy_key else {
        let why = "federation.well_known_policy_key is not configured here";
        return Err(MatrixError::not_found(why).into());
    };
    Ok(reply::ok(&json!({ "public_keys": { "ed25519": key } })))
}
