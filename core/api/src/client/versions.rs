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
use colonnade_rooms::{Result, settings::Support};
use colonnade_services::{Services, turn_server};
use colonnade_users::accounts::Session;
use http::{Method, Request, header, uri::Authority};
use serde_json::{Map, Value, json};

use crate::{
    call::Call,
    reply::{self, Reply},
    request::{ByteBody, OverTls},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_supported_versions::Request, _>(supported_versions);
    table.add_json::<get_capabilities::v3::Request, _>(capabilities);
    table.add_raw(Method::GET, "/.well-known/matrix/client", well_known);
    table.add_raw(Method::GET, "/.well-known/matrix/support", support);
    table.add_raw(Method::GET, "/_matrix/client/v1/auth_metadata", auth_metadata);
    table.add_json::<get_turn_server_info::v3::Request, _>(turn_server);
    table.add_json::<get_protocols::v3::Request, _>(protocols);
}

async fn supported_versions<Who>(
    _call: Call<get_supported_versions::Request, Who>,
) -> Result<Value> {
    let versions = (1..=19).map(|minor| format!("v1.{minor}"));
    let versions: Vec<String> = ["r0.6.1".to_owned()].into_iter().chain(versions).collect();
    let features = FEATURES.iter().map(|(name, _)| ((*name).to_owned(), json!(true)));
    let features: Map<String, Value> = features.collect();
    Ok(json!({ "versions": versions, "unstable_features": features }))
}

/// Features under names of before they were specified, which clients still look for, and by which path
/// each shows. A test compares this with what is mounted.
///
/// Source: Matrix v1.19, client-server, `GET /_matrix/client/versions`.
pub(crate) const FEATURES: &[(&str, &str)] = &[
    (
        "org.matrix.simplified_msc3575",
        "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync",
    ),
    ("org.matrix.e2e_cross_signing", "/_matrix/client/unstable/keys/device_signing/upload"),
    ("uk.half-shot.msc2666", "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms"),
    (
        "uk.half-shot.msc2666.query_mutual_rooms",
        "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
    ),
    ("uk.half-shot.msc2666.query_mutual_rooms.stable", "/_matrix/client/v1/mutual_rooms"),
    ("org.matrix.msc2432", "/_matrix/client/unstable/org.matrix.msc2432/rooms/{room_id}/aliases"),
    ("fi.mau.msc2246", "/_matrix/media/unstable/fi.mau.msc2246/create"),
    ("org.matrix.msc2946", "/_matrix/client/unstable/org.matrix.msc2946/rooms/{room_id}/hierarchy"),
    (
        "org.matrix.msc3030",
        "/_matrix/client/unstable/org.matrix.msc3030/rooms/{room_id}/timestamp_to_event",
    ),
    ("org.matrix.msc3440.stable", "/_matrix/client/v1/rooms/{room_id}/threads"),
    ("org.matrix.msc3771", "/_matrix/client/v3/rooms/{room_id}/receipt/{receipt_type}/{event_id}"),
    ("org.matrix.msc3827.stable", "/_matrix/client/v3/publicRooms"),
    ("org.matrix.msc3856", "/_matrix/client/unstable/org.matrix.msc3856/rooms/{room_id}/threads"),
    ("org.matrix.msc3882", "/_matrix/client/unstable/org.matrix.msc3882/login/get_token"),
    (
        "org.matrix.msc3916",
        "/_matrix/client/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}",
    ),
    ("org.matrix.msc3916.stable", "/_matrix/client/v1/media/download/{server_name}/{media_id}"),
    ("org.matrix.msc2285.stable", "/_matrix/client/v3/rooms/{room_id}/read_markers"),
    (
        "im.nheko.summary",
        "/_matrix/client/unstable/im.nheko.summary/rooms/{room_id_or_alias}/summary",
    ),
    ("uk.tcpip.msc4133", "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}/{field}"),
    ("uk.tcpip.msc4133.stable", "/_matrix/client/v3/profile/{user_id}/{field}"),
    ("org.matrix.msc4151", "/_matrix/client/unstable/org.matrix.msc4151/rooms/{room_id}/report"),
    ("org.matrix.msc4260", "/_matrix/client/unstable/org.matrix.msc4260/users/{user_id}/report"),
    (
        "org.matrix.msc3391",
        "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}",
    ),
    ("org.matrix.msc3874", "/_matrix/client/v3/rooms/{room_id}/messages"),
    ("org.matrix.msc3890", "/_matrix/client/v3/user/{user_id}/account_data/{event_type}"),
    ("org.matrix.msc3930", "/_matrix/client/v3/pushrules/"),
    ("org.matrix.msc4155", "/_matrix/client/v3/user/{user_id}/account_data/{event_type}"),
    ("uk.timedout.msc4323", "/_matrix/client/unstable/uk.timedout.msc4323/admin/lock/{user_id}"),
    ("xyz.amorgan.knock", "/_matrix/client/unstable/xyz.amorgan.knock/knock/{room_id_or_alias}"),
];

/// The library's type leaves out what has the default value; here all of it is said.
async fn capabilities(call: Call<get_capabilities::v3::Request, Session>) -> Result<Value> {
    let available =
        versions::SUPPORTED.iter().map(|version| (version.to_string(), json!("stable")));
    let available: Map<String, Value> = available.collect();
    let default = &call.services.context.settings.rooms.default_version;
    let mut capabilities = json!({
        "m.change_password": { "enabled": true },
        "m.room_versions": { "default": default, "available": available },
        "m.set_displayname": { "enabled": true },
        "m.set_avatar_url": { "enabled": true },
        "m.profile_fields": { "enabled": true },
        "m.3pid_changes": { "enabled": false },
        "m.get_login_token": { "enabled": true },
        "m.forget_forced_upon_leave": { "enabled": false },
    });
    if call.services.accounts.is_admin(&call.who).await? {
        capabilities["m.account_moderation"] = json!({ "suspend": true, "lock": true });
    }
    Ok(json!({ "capabilities": capabilities }))
}

/// A trial server, which nobody reaches but this machine, is where it was asked at.
async fn well_known(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let settings = &services.context.settings;
    let scheme = if request.extensions().get::<OverTls>().is_some() { "https" } else { "http" };
    let asked_at = || host(&request).map(|host| format!("{scheme}://{host}"));
    let base_url = match &settings.public_base_url {
        Some(base_url) => Some(base_url.clone()),
        None if settings.is_local_trial => asked_at(),
        None => None,
    };
    let Some(base_url) = base_url else {
        return Err(MatrixError::not_found("public_base_url is not configured here").into());
    };
    let base_url = base_url.trim_end_matches('/');
    Ok(reply::ok(&json!({ "m.homeserver": { "base_url": base_url } })))
}

/// Says whom people turn to.
async fn support(
    services: Arc<Services>,
    _request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let Support { page, contacts } = &services.context.settings.support;
    let mut answer = Map::new();
    if let Some(page) = page {
        answer.insert("support_page".to_owned(), json!(page));
    }
    if !contacts.is_empty() {
        answer.insert("contacts".to_owned(), json!(contacts));
    }
    match answer.is_empty() {
        true => Err(MatrixError::not_found("support is not configured here").into()),
        false => Ok(reply::ok(&Value::Object(answer))),
    }
}

/// Returns the host and port that a request names.
fn host(request: &Request<ByteBody>) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = named.map(str::parse::<Authority>).and_then(Result::ok);
    let host = host.or_else(|| request.uri().authority().cloned())?;
    // Without what may stand before it.
    Some(host.port().map_or(host.host().to_owned(), |port| format!("{}:{port}", host.host())))
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
    let turn = turn_server::turn_credentials(&context.settings.voip, &call.who.user_id, now_ms);
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
