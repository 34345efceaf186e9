//! What this server speaks, and where it is: `/versions`, `/capabilities`, `/.well-known`.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::api::client::{
        discovery::{get_capabilities, get_supported_versions},
        thirdparty::get_protocols,
        voip::get_turn_server_info,
    },
    versions,
};
use colonnade_services::{Result, Services, accounts::Session, voip};
use http::{Method, Request};
use serde_json::{Map, Value, json};

use crate::{
    call::{ByteBody, Call},
    reply::{self, Reply},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_supported_versions::Request, _>(supported_versions);
    table.add_json::<get_capabilities::v3::Request, _>(capabilities);
    table.add_raw(Method::GET, "/.well-known/matrix/client", well_known);
    table.add_raw(Method::GET, "/_matrix/client/v1/auth_metadata", auth_metadata);
    table.add_json::<get_turn_server_info::v3::Request, _>(turn_server);
    table.add_json::<get_protocols::v3::Request, _>(protocols);
}

async fn supported_versions<Who>(
    _call: Call<get_supported_versions::Request, Who>,
) -> Result<Value> {
    let versions = (1..=19).map(|minor| format!("v1.{minor}"));
    let versions: Vec<String> = ["r0.6.1".to_owned()].into_iter().chain(versions).collect();
    Ok(json!({ "versions": versions, "unstable_features": {} }))
}

/// The library's type leaves out what has the default value; here all of it is said.
async fn capabilities(call: Call<get_capabilities::v3::Request, Session>) -> Result<Value> {
    let available =
        versions::SUPPORTED.iter().map(|version| (version.to_string(), json!("stable")));
    let available: Map<String, Value> = available.collect();
    let default = &call.services.context.settings.rooms.default_version;
    Ok(json!({ "capabilities": {
        "m.change_password": { "enabled": true },
        "m.room_versions": { "default": default, "available": available },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": false },
        "m.get_login_token": { "enabled": true },
        "m.forget_forced_upon_leave": { "enabled": false },
    } }))
}

async fn well_known(
    services: Arc<Services>,
    _request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let Some(base_url) = &services.context.settings.public_base_url else {
        return Err(MatrixError::not_found("public_base_url is not configured here").into());
    };
    let base_url = base_url.trim_end_matches('/');
    Ok(reply::ok(&json!({ "m.homeserver": { "base_url": base_url } })))
}

/// There is no OAuth 2.0 here: the answer by which clients find that out.
///
/// Source: Matrix v1.19, client-server, "Authentication API discovery".
async fn auth_metadata(
    _services: Arc<Services>,
    _request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    Err(MatrixError::unrecognized("this server does not use OAuth 2.0").into())
}

async fn turn_server(call: Call<get_turn_server_info::v3::Request, Session>) -> Result<Value> {
    let context = &call.services.context;
    let now_ms = context.now_ms();
    let turn = voip::turn_credentials(&context.settings.voip, &call.who.user_id, now_ms);
    Ok(json!({
        "username": turn.username,
        "password": turn.password,
        "uris": turn.uris,
        "ttl": turn.ttl_s,
    }))
}

/// No network is bridged here.
async fn protocols(_call: Call<get_protocols::v3::Request, Session>) -> Result<Value> {
    Ok(json!({}))
}
