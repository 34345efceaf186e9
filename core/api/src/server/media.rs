//! Files of this server, for other servers: an object of which nothing is specified, and the file, as two parts of
//! one body.
//!
//! Source: Matrix v1.19, server-server, "Content Repository".

use bytes::Bytes;
use colonnade_model::ruma::api::federation::authenticated_media::{
    get_content::v1 as get_content, get_content_thumbnail::v1 as get_thumbnail,
};
use colonnade_rooms::Result;
use colonnade_services::{
    Services,
    media::{Method as Fit, ThumbnailRequest},
};
use colonnade_users::{answers::Need, bodies::Payer, limits::Key};
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::StreamBody;

use super::endpoint::Origin;
use crate::{
    call::Call,
    client::media::headers,
    reply::{self, Reply},
    table::Table,
};

/// A request without a body.
const NO_BODY: usize = 0;
/// The length of a boundary: nobody writes a file that has it in it.
const BOUNDARY_LENGTH: usize = 32;

/// Where servers ask that know the endpoints as they were proposed (MSC3916).
const DOWNLOAD_BEFORE: &str =
    "/_matrix/federation/unstable/org.matrix.msc3916.v2/media/download/{media_id}";
/// The same of pictures.
const THUMBNAIL_BEFORE: &str =
    "/_matrix/federation/unstable/org.matrix.msc3916.v2/media/thumbnail/{media_id}";

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_signed::<get_content::Request, _, _, _>(NO_BODY, download)
        .add_signed::<get_thumbnail::Request, _, _, _>(NO_BODY, thumbnail)
        .add_signed_at::<get_content::Request, _, _, _>(DOWNLOAD_BEFORE, NO_BODY, download)
        .add_signed_at::<get_thumbnail::Request, _, _, _>(THUMBNAIL_BEFORE, NO_BODY, thumbnail);
}

async fn download(call: Call<get_content::Request, Origin>) -> Result<Reply> {
    let get_content::Request { media_id, timeout_ms, .. } = call.request;
    let services = call.services;
    let ours = services.context.server_name.as_str();
    let download = services.media.download(ours, &media_id, Some(timeout_ms)).await?;
    let bytes = download.content.bytes;
    let kind = headers::content_type(download.content.content_type.as_deref());
    let disposition = headers::disposition(&kind, download.content.file_name.clone());
    let parts = Parts::around(&services, &kind, &disposition);
    let file = download.stream(0, bytes).await?;
    let pieces = stream::iter([Ok(parts.before.clone())]).chain(file);
    let pieces = pieces.chain(stream::iter([Ok(parts.after.clone())]));
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    Ok(parts.reply(reply::streamed(body), bytes))
}

async fn thumbnail(call: Call<get_thumbnail::Request, Origin>) -> Result<Reply> {
    let get_thumbnail::Request { media_id, timeout_ms, width, height, method, .. } = call.request;
    let (services, origin) = (call.services, call.who.server);
    let pixels = |length| u32::try_from(u64::from(length)).unwrap_or(u32::MAX);
    let wanted = ThumbnailRequest {
        width: pixels(width),
        height: pixels(height),
        method: match method.as_ref().map(AsRef::as_ref) {
            Some("crop") => Fit::Crop,
            _ => Fit::Scale,
        },
        wait: Some(timeout_ms),
    };
    let ours = services.context.server_name.as_str();
    let made = services.media.thumbnail(ours, &media_id, &wanted).await?;
    let payer = Payer::Server(Key::name(origin.as_str()));
    call.needed.reserve(&services, payer, Need::Page).await?;
    let kind = HeaderValue::from_static(made.content_type);
    let parts = Parts::around(&services, &kind, &HeaderValue::from_static("inline"));
    let body = [&parts.before[..], &made.bytes[..], &parts.after[..]].concat();
    Ok(parts.reply(reply::full(body), made.bytes.len() as u64))
}

/// What stands before a file and after it.
struct Parts {
    boundary: String,
    before: Bytes,
    after: Bytes,
}

impl Parts {
    fn around(services: &Services, kind: &HeaderValue, disposition: &HeaderValue) -> Self {
        let boundary = services.context.random.alphanumeric(BOUNDARY_LENGTH);
        let first = format!("--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}");
        let second = format!("\r\n--{boundary}\r\nContent-Type: ");
        let before = [
            first.as_bytes(),
            second.as_bytes(),
            kind.as_bytes(),
            b"\r\nContent-Disposition: ",
            disposition.as_bytes(),
            b"\r\n\r\n",
        ];
        let before = Bytes::from(before.concat());
        let after = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        Self { boundary, before, after }
    }

    fn reply(&self, body: reply::ReplyBody, bytes: u64) -> Reply {
        let mut reply = Response::new(body);
        let kind = format!("multipart/mixed; boundary={}", self.boundary);
        headers::set(&mut reply, header::CONTENT_TYPE, kind);
        let bytes = bytes + (self.before.len() + self.after.len()) as u64;
        headers::set(&mut reply, header::CONTENT_LENGTH, bytes.to_string());
        reply
    }
}
