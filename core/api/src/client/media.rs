//! `/media`: uploads here, downloads and thumbnails in `media/download.rs`. Bodies are streams, so
//! most of these endpoints read the request themselves. URL previews are not offered.

mod arguments;
mod download;
pub(crate) mod headers;

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        MilliSecondsSinceUnixEpoch, OwnedMxcUri, UInt,
        api::client::{
            authenticated_media::get_media_config as authenticated_config,
            media::{create_mxc_uri, get_media_config},
        },
    },
};
use colonnade_rooms::Result;
use colonnade_services::{Services, media::Described};
use colonnade_users::accounts::Session;
use http::{Method, Request, header, request::Parts};
use http_body::Body as _;
use http_body_util::BodyExt as _;

use crate::{
    call::{Call, query, session},
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};
use arguments::no_arguments;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<create_mxc_uri::v1::Request, _>(create);
    table.add::<authenticated_config::v1::Request, _>(config);
    #[expect(deprecated, reason = "clients from before version 1.11 ask here")]
    table.add::<get_media_config::v3::Request, _>(old_config);
    for path in ["/_matrix/media/r0/upload", "/_matrix/media/v1/upload", "/_matrix/media/v3/upload"]
    {
        table.add_raw(Method::POST, path, upload);
    }
    for path in [
        "/_matrix/media/unstable/fi.mau.msc2246/upload/{server_name}/{media_id}",
        "/_matrix/media/v3/upload/{server_name}/{media_id}",
    ] {
        table.add_raw(Method::PUT, path, fill);
    }
    download::mount(table);
}

async fn create(
    call: Call<create_mxc_uri::v1::Request, Session>,
) -> Result<create_mxc_uri::v1::Response> {
    let (media_id, expires_ts) = call.services.media.create(&call.who).await?;
    let expires = u64::try_from(expires_ts).ok().and_then(|ts| UInt::try_from(ts).ok());
    Ok(create_mxc_uri::v1::Response {
        content_uri: OwnedMxcUri::from(content_uri(&call.services, &media_id)),
        unused_expires_at: expires.map(MilliSecondsSinceUnixEpoch),
    })
}

async fn config(
    call: Call<authenticated_config::v1::Request, Session>,
) -> Result<authenticated_config::v1::Response> {
    let upload_size = UInt::new_saturating(call.services.media.upload_bytes_max());
    Ok(authenticated_config::v1::Response { upload_size })
}

#[expect(deprecated, reason = "clients from before version 1.11 ask here")]
async fn old_config(
    call: Call<get_media_config::v3::Request, Session>,
) -> Result<get_media_config::v3::Response> {
    let upload_size = UInt::new_saturating(call.services.media.upload_bytes_max());
    Ok(get_media_config::v3::Response { upload_size })
}

// What is refused is answered at once; the listener sees to the rest of its body.

async fn upload(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let (session, described) = admitted(&services, &parts, body.size_hint().exact()).await?;
    let media_id = services.media.upload(&session, described, &mut body.into_data_stream()).await?;
    Ok(reply::ok(&serde_json::json!({ "content_uri": content_uri(&services, &media_id) })))
}

async fn fill(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let (session, described) = admitted(&services, &parts, body.size_hint().exact()).await?;
    let [server_name, media_id] = args.as_slice() else { return Err(no_arguments().into()) };
    let mut stream = body.into_data_stream();
    services.media.fill(&session, server_name, media_id, described, &mut stream).await?;
    Ok(reply::ok(&serde_json::json!({})))
}

/// Finds out who uploads what, without touching the body.
async fn admitted(
    services: &Services,
    parts: &Parts,
    bytes: Option<u64>,
) -> Result<(Session, Described)> {
    let session = session(services, parts).await?;
    Ok((session, described(parts, bytes)?))
}

fn content_uri(services: &Services, media_id: &str) -> String {
    format!("mxc://{}/{media_id}", services.context.server_name)
}

/// Reads what the request says about the body without touching it.
fn described(parts: &Parts, bytes: Option<u64>) -> Result<Described, MatrixError> {
    let content_type = match parts.headers.get(header::CONTENT_TYPE) {
        Some(value) => Some(
            value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| MatrixError::invalid_param("the Content-Type header is not ASCII"))?,
        ),
        None => None,
    };
    let file_name = query(parts, "filename").filter(|name| !name.is_empty());
    Ok(Described { content_type, file_name, bytes })
}
