//! Key backup: versions, and keys by all, by room, by session.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use colonnade_model::{
    MatrixError,
    ruma::{
        RoomId,
        api::client::backup::{
            RoomKeyBackup, add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session,
            create_backup_version, delete_backup_keys, delete_backup_keys_for_room,
            delete_backup_keys_for_session, delete_backup_version, get_backup_info,
            get_backup_keys, get_backup_keys_for_room, get_backup_keys_for_session,
            get_latest_backup_info, update_backup_version,
        },
        serde::Raw,
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_services::Services;
use colonnade_users::{
    accounts::Session,
    key_backup::{Backed, Reader, Scope},
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::{Request, StatusCode, request::Parts};
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::Value;

use crate::{
    call::{Call, query, session},
    reply::{self, Reply},
    request::ByteBody,
    table::{KEYS_BYTES_MAX, Table},
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<create_backup_version::v3::Request, _>(create);
    table.add::<get_latest_backup_info::v3::Request, _>(latest);
    table.add::<get_backup_info::v3::Request, _>(info);
    table.add::<update_backup_version::v3::Request, _>(update);
    table.add::<delete_backup_version::v3::Request, _>(delete);
    table.add_limited::<add_backup_keys::v3::Request, _>(KEYS_BYTES_MAX, put_all);
    table.add_limited::<add_backup_keys_for_room::v3::Request, _>(KEYS_BYTES_MAX, put_room);
    table.add::<add_backup_keys_for_session::v3::Request, _>(put_session);
    table.add_raw_for::<get_backup_keys::v3::Request, _, _>(get_all);
    table.add_raw_for::<get_backup_keys_for_room::v3::Request, _, _>(get_room);
    table.add::<get_backup_keys_for_session::v3::Request, _>(get_session);
    table.add::<delete_backup_keys::v3::Request, _>(delete_all);
    table.add::<delete_backup_keys_for_room::v3::Request, _>(delete_room);
    table.add::<delete_backup_keys_for_session::v3::Request, _>(delete_session);
}

// === Versions ===

async fn create(
    call: Call<create_backup_version::v3::Request, Session>,
) -> Result<create_backup_version::v3::Response> {
    let version = call.services.key_backup.create(call.who.user, &call.request.algorithm).await?;
    Ok(create_backup_version::v3::Response { version })
}

async fn latest(
    call: Call<get_latest_backup_info::v3::Request, Session>,
) -> Result<get_latest_backup_info::v3::Response> {
    let info = call.services.key_backup.latest(call.who.user).await?;
    Ok(get_latest_backup_info::v3::Response {
        algorithm: info.algorithm,
        count: info.count,
        etag: info.etag,
        version: info.version,
    })
}

async fn info(
    call: Call<get_backup_info::v3::Request, Session>,
) -> Result<get_backup_info::v3::Response> {
    let info = call.services.key_backup.get(call.who.user, &call.request.version).await?;
    Ok(get_backup_info::v3::Response {
        algorithm: info.algorithm,
        count: info.count,
        etag: info.etag,
        version: info.version,
    })
}

async fn update(
    call: Call<update_backup_version::v3::Request, Session>,
) -> Result<update_backup_version::v3::Response> {
    let update_backup_version::v3::Request { version, algorithm } = call.request;
    call.services.key_backup.update(call.who.user, &version, &algorithm).await?;
    Ok(update_backup_version::v3::Response {})
}

async fn delete(
    call: Call<delete_backup_version::v3::Request, Session>,
) -> Result<delete_backup_version::v3::Response> {
    call.services.key_backup.delete(call.who.user, &call.request.version).await?;
    Ok(delete_backup_version::v3::Response {})
}

// === Storing keys ===

async fn put_all(
    call: Call<add_backup_keys::v3::Request, Session>,
) -> Result<add_backup_keys::v3::Response> {
    let add_backup_keys::v3::Request { version, rooms } = call.request;
    let stored = call.services.key_backup.put(call.who.user, &version, rooms).await?;
    Ok(add_backup_keys::v3::Response { etag: stored.etag, count: stored.count })
}

async fn put_room(
    call: Call<add_backup_keys_for_room::v3::Request, Session>,
) -> Result<add_backup_keys_for_room::v3::Response> {
    let add_backup_keys_for_room::v3::Request { version, room_id, sessions } = call.request;
    let rooms = BTreeMap::from([(room_id, RoomKeyBackup { sessions })]);
    let stored = call.services.key_backup.put(call.who.user, &version, rooms).await?;
    Ok(add_backup_keys_for_room::v3::Response { etag: stored.etag, count: stored.count })
}

async fn put_session(
    call: Call<add_backup_keys_for_session::v3::Request, Session>,
) -> Result<add_backup_keys_for_session::v3::Response> {
    let add_backup_keys_for_session::v3::Request { version, room_id, session_id, session_data } =
        call.request;
    let sessions = BTreeMap::from([(session_id, session_data)]);
    let rooms = BTreeMap::from([(room_id, RoomKeyBackup { sessions })]);
    let stored = call.services.key_backup.put(call.who.user, &version, rooms).await?;
    Ok(add_backup_keys_for_session::v3::Response { etag: stored.etag, count: stored.count })
}

// === Reading keys ===

async fn get_all(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let who = session(&services, &parts).await?;
    let backup = &services.key_backup;
    let reader = backup.reader(who.user, &version(&parts)?, Scope::All).await?;
    streamed(reader, Shape::Rooms).await
}

async fn get_room(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let who = session(&services, &parts).await?;
    let room_id = RoomId::parse(args.first().map_or("", String::as_str))
        .map_err(|error| MatrixError::invalid_param(format!("not a room id: {error}")))?;
    let scope = Scope::Room(room_id.to_string());
    let reader = services.key_backup.reader(who.user, &version(&parts)?, scope).await?;
    streamed(reader, Shape::Sessions).await
}

async fn get_session(
    call: Call<get_backup_keys_for_session::v3::Request, Session>,
) -> Result<get_backup_keys_for_session::v3::Response> {
    let get_backup_keys_for_session::v3::Request { version, room_id, session_id } = call.request;
    let scope = Scope::Session(room_id.to_string(), session_id);
    let mut reader = call.services.key_backup.reader(call.who.user, &version, scope).await?;
    let key = reader.page().await?.pop();
    let key = key.ok_or_else(|| MatrixError::not_found("key not found"))?;
    let key_data = Raw::from_json_string(key.json)
        .map_err(|error| Error::internal("render a backed up key", error))?;
    Ok(get_backup_keys_for_session::v3::Response { key_data })
}

fn version(parts: &Parts) -> Result<String, MatrixError> {
    query(parts, "version").ok_or_else(|| MatrixError::missing_param("missing field `version`"))
}

/// What stands around the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `{"rooms":{room:{"sessions":{session:key}}}}`
    Rooms,
    /// `{"sessions":{session:key}}`
    Sessions,
}

/// An answer of which one page of keys is in memory at a time.
struct Stream {
    reader: Reader,
    shape: Shape,
    /// The room whose sessions are being written.
    room: Option<String>,
    ended: bool,
}

/// Answers with all keys. What fails before the first page is an error; later, the answer breaks off.
async fn streamed(mut reader: Reader, shape: Shape) -> Result<Reply> {
    let first = reader.page().await?;
    let mut stream = Stream { reader, shape, room: None, ended: false };
    let mut begun = match shape {
        Shape::Rooms => "{\"rooms\":{".to_owned(),
        Shape::Sessions => "{\"sessions\":{".to_owned(),
    };
    stream.write(first, &mut begun);
    let rest = futures_util::stream::try_unfold(stream, async |mut stream| {
        if stream.ended {
            return Ok(None);
        }
        let page = stream.reader.page().await.map_err(std::io::Error::other)?;
        let mut text = String::new();
        stream.write(page, &mut text);
        Ok(Some((text, stream)))
    });
    let begun = futures_util::stream::once(async move { Ok::<_, std::io::Error>(begun) });
    let frames = begun.chain(rest).map_ok(|text| Frame::data(Bytes::from(text)));
    Ok(reply::json_body(StatusCode::OK, reply::streamed(StreamBody::new(frames))))
}

impl Stream {
    /// Writes a page, or the end when it is empty.
    fn write(&mut self, page: Vec<Backed>, text: &mut String) {
        self.ended = page.is_empty();
        for Backed { room_id, session_id, json } in page {
            let is_next = self.room.as_ref() == Some(&room_id);
            if is_next || self.shape == Shape::Sessions && self.room.is_some() {
                text.push(',');
            } else if self.shape == Shape::Rooms {
                let end = if self.room.is_some() { "}}," } else { "" };
                text.push_str(&format!("{end}{}:{{\"sessions\":{{", Value::from(&*room_id)));
            }
            text.push_str(&format!("{}:{json}", Value::from(session_id)));
            self.room = Some(room_id);
        }
        if self.ended {
            let of_room = self.shape == Shape::Rooms && self.room.is_some();
            text.push_str(if of_room { "}}}}" } else { "}}" });
        }
    }
}

// === Deleting keys ===

async fn delete_all(
    call: Call<delete_backup_keys::v3::Request, Session>,
) -> Result<delete_backup_keys::v3::Response> {
    let backup = &call.services.key_backup;
    let stored = backup.remove(call.who.user, &call.request.version, Scope::All).await?;
    Ok(delete_backup_keys::v3::Response { etag: stored.etag, count: stored.count })
}

async fn delete_room(
    call: Call<delete_backup_keys_for_room::v3::Request, Session>,
) -> Result<delete_backup_keys_for_room::v3::Response> {
    let delete_backup_keys_for_room::v3::Request { version, room_id } = call.request;
    let scope = Scope::Room(room_id.to_string());
    let stored = call.services.key_backup.remove(call.who.user, &version, scope).await?;
    Ok(delete_backup_keys_for_room::v3::Response { etag: stored.etag, count: stored.count })
}

async fn delete_session(
    call: Call<delete_backup_keys_for_session::v3::Request, Session>,
) -> Result<delete_backup_keys_for_session::v3::Response> {
    let delete_backup_keys_for_session::v3::Request { version, room_id, session_id } = call.request;
    let scope = Scope::Session(room_id.to_string(), session_id);
    let stored = call.services.key_backup.remove(call.who.user, &version, scope).await?;
    Ok(delete_backup_keys_for_session::v3::Response { etag: stored.etag, count: stored.count })
}
