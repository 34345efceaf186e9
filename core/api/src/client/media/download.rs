//! Downloads and thumbnails, for logged-in users and, as far as the operator lets them, at the old
//! endpoints that ask for no token.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use colonnade_model::MatrixError;
use colonnade_rooms::Result;
use colonnade_services::{
    Services,
    media::{Download, Method as Fit, ThumbnailRequest},
};
use colonnade_users::{answers::Need, bodies::Payer};
use futures_util::TryStreamExt as _;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Frame;
use http_body_util::StreamBody;

use super::{arguments::no_arguments, headers};
use crate::{
    call::{query, session, stranger},
    needs::Needed,
    reply::{self, Reply},
    request::{ByteBody, address_of},
    table::Table,
};

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    LoggedIn,
    Anybody,
}

/// Mounts the endpoints of this area.
pub(super) fn mount(table: &mut Table) {
    for path in [
        "/_matrix/client/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}",
        "/_matrix/client/unstable/org.matrix.msc3916/media/download/{server_name}/{media_id}/{name}",
        "/_matrix/client/v1/media/download/{server_name}/{media_id}",
        "/_matrix/client/v1/media/download/{server_name}/{media_id}/{name}",
    ] {
        table.add_raw(Method::GET, path, |services, request, args| {
            download(services, request, args, Access::LoggedIn)
        });
    }
    for path in [
        "/_matrix/media/r0/download/{server_name}/{media_id}",
        "/_matrix/media/r0/download/{server_name}/{media_id}/{name}",
        "/_matrix/media/v1/download/{server_name}/{media_id}",
        "/_matrix/media/v1/download/{server_name}/{media_id}/{name}",
        "/_matrix/media/v3/download/{server_name}/{media_id}",
        "/_matrix/media/v3/download/{server_name}/{media_id}/{name}",
    ] {
        table.add_raw(Method::GET, path, |services, request, args| {
            download(services, request, args, Access::Anybody)
        });
    }
    for path in [
        "/_matrix/client/unstable/org.matrix.msc3916/media/thumbnail/{server_name}/{media_id}",
        "/_matrix/client/v1/media/thumbnail/{server_name}/{media_id}",
    ] {
        table.add_raw(Method::GET, path, |services, request, args| {
            thumbnail(services, request, args, Access::LoggedIn)
        });
    }
    for path in [
        "/_matrix/media/r0/thumbnail/{server_name}/{media_id}",
        "/_matrix/media/v1/thumbnail/{server_name}/{media_id}",
        "/_matrix/media/v3/thumbnail/{server_name}/{media_id}",
    ] {
        table.add_raw(Method::GET, path, |services, request, args| {
            thumbnail(services, request, args, Access::Anybody)
        });
    }
}

/// Lets through who may ask for this media at this endpoint, and says who that is.
async fn admit(
    services: &Services,
    parts: &Parts,
    access: Access,
    server_name: &str,
    media_id: &str,
) -> Result<Payer> {
    match access {
        Access::LoggedIn => Ok(Payer::User(session(services, parts).await?.user)),
        Access::Anybody => {
            let payer = stranger(services, address_of(&parts.extensions))?;
            services.media.may_be_public(server_name, media_id).await?;
            // Two servers that look for a file at each other would never end.
            if query(parts, "allow_remote").as_deref() == Some("false") {
                services.media.require_here(server_name, media_id).await?;
            }
            Ok(payer)
        }
    }
}

async fn download(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
    access: Access,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let [server_name, media_id, name @ ..] = args.as_slice() else {
        return Err(no_arguments().into());
    };
    admit(&services, &parts, access, server_name, media_id).await?;
    let wait = wait(&parts)?;
    let download = services.media.download(server_name, media_id, wait).await?;
    let etag = headers::etag(&download.content.hash, "");
    let kind = headers::content_type(download.content.content_type.as_deref());
    let name = name.first().or(download.content.file_name.as_ref()).cloned();
    let disposition = headers::disposition(&kind, name);
    let public = access == Access::Anybody;
    let mut reply = if headers::is_known(&parts, &etag) {
        headers::unchanged()
    } else {
        ranged(&parts, &etag, download).await?
    };
    headers::add(reply.headers_mut(), public, etag);
    reply.headers_mut().entry(header::CONTENT_TYPE).or_insert(kind);
    reply.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    Ok(reply)
}

/// Answers with the file or the part of it that was asked for.
async fn ranged(parts: &Parts, etag: &http::HeaderValue, download: Download) -> Result<Reply> {
    let bytes = download.content.bytes;
    let (status, first, count) = match headers::range(parts, etag, bytes) {
        headers::Range::Whole => (StatusCode::OK, 0, bytes),
        headers::Range::Part { first, last } => {
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
        }
        headers::Range::Beyond => {
            let why = format!("the content has {bytes} bytes only");
            let error = MatrixError::unknown(why).with_status(416);
            let mut reply = reply::matrix_error(&error);
            headers::set(&mut reply, header::CONTENT_RANGE, format!("bytes */{bytes}"));
            return Ok(reply);
        }
    };
    let body = StreamBody::new(download.stream(first, count).await?.map_ok(Frame::data));
    let mut reply = Response::new(reply::streamed(body));
    *reply.status_mut() = status;
    headers::set(&mut reply, header::CONTENT_LENGTH, count.to_string());
    if status == StatusCode::PARTIAL_CONTENT {
        let range = format!("bytes {first}-{}/{bytes}", first + count - 1);
        headers::set(&mut reply, header::CONTENT_RANGE, range);
    }
    Ok(reply)
}

async fn thumbnail(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
    access: Access,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let [server_name, media_id] = args.as_slice() else { return Err(no_arguments().into()) };
    let payer = admit(&services, &parts, access, server_name, media_id).await?;
    let fit = match query(&parts, "method").as_deref() {
        None | Some("scale") => Fit::Scale,
        Some("crop") => Fit::Crop,
        Some(_) => return Err(MatrixError::invalid_param("method is crop or scale").into()),
    };
    let thumbnail = ThumbnailRequest {
        width: pixels(&parts, "width")?,
        height: pixels(&parts, "height")?,
        method: fit,
        wait: wait(&parts)?,
    };
    let made = services.media.thumbnail(server_name, media_id, &thumbnail).await?;
    Needed::of(&parts.extensions).reserve(&services, payer, Need::Page).await?;
    let public = access == Access::Anybody;
    let variant = format!("-{}x{}-{fit:?}", thumbnail.width, thumbnail.height);
    let etag = headers::etag(&made.hash, &variant);
    let mut reply = if headers::is_known(&parts, &etag) {
        headers::unchanged()
    } else {
        Response::new(reply::full(Bytes::from(made.bytes)))
    };
    headers::add(reply.headers_mut(), public, etag);
    headers::set(&mut reply, header::CONTENT_TYPE, made.content_type.to_owned());
    let name = if made.content_type == "image/png" { "thumbnail.png" } else { "thumbnail.jpg" };
    headers::set(&mut reply, header::CONTENT_DISPOSITION, format!("inline; filename={name}"));
    Ok(reply)
}

/// Reads how long the client waits for an upload that is still to come.
fn wait(parts: &Parts) -> Result<Option<Duration>, MatrixError> {
    let Some(text) = query(parts, "timeout_ms") else { return Ok(None) };
    let wait_ms = text.parse::<u64>();
    let wait_ms =
        wait_ms.map_err(|_| MatrixError::invalid_param("timeout_ms is not a whole number"))?;
    Ok(Some(Duration::from_millis(wait_ms)))
}

fn pixels(parts: &Parts, name: &str) -> Result<u32, MatrixError> {
    let Some(text) = query(parts, name) else {
        return Err(MatrixError::missing_param(format!("{name} is missing")));
    };
    text.parse::<u32>().map_err(|_| MatrixError::invalid_param(format!("{name} is not a length")))
}
