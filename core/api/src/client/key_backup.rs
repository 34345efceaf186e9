//! Key backup: versions, and keys by all, by room, by session.

use std::collections::BTreeMap;

use colonnade_model::{
    MatrixError,
    ruma::api::client::backup::{
        RoomKeyBackup, add_backup_keys, add_backup_keys_for_room, add_backup_keys_for_session,
        create_backup_version, delete_backup_keys, delete_backup_keys_for_room,
        delete_backup_keys_for_session, delete_backup_version, get_backup_info, get_backup_keys,
        get_backup_keys_for_room, get_backup_keys_for_session, get_latest_backup_info,
        update_backup_version,
    },
};
use colonnade_services::{Result, accounts::Session, key_backup::Scope};

use crate::{
    call::Call,
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
    table.add::<get_backup_keys::v3::Request, _>(get_all);
    table.add::<get_backup_keys_for_room::v3::Request, _>(get_room);
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
    call: Call<get_backup_keys::v3::Request, Session>,
) -> Result<get_backup_keys::v3::Response> {
    let backup = &call.services.key_backup;
    let rooms = backup.keys(call.who.user, &call.request.version, Scope::All).await?;
    Ok(get_backup_keys::v3::Response { rooms })
}

async fn get_room(
    call: Call<get_backup_keys_for_room::v3::Request, Session>,
) -> Result<get_backup_keys_for_room::v3::Response> {
    let get_backup_keys_for_room::v3::Request { version, room_id } = call.request;
    let scope = Scope::Room(room_id.to_string());
    let mut rooms = call.services.key_backup.keys(call.who.user, &version, scope).await?;
    let sessions = rooms.remove(&room_id).map(|room| room.sessions).unwrap_or_default();
    Ok(get_backup_keys_for_room::v3::Response { sessions })
}

async fn get_session(
    call: Call<get_backup_keys_for_session::v3::Request, Session>,
) -> Result<get_backup_keys_for_session::v3::Response> {
    let get_backup_keys_for_session::v3::Request { version, room_id, session_id } = call.request;
    let scope = Scope::Session(room_id.to_string(), session_id.clone());
    let mut rooms = call.services.key_backup.keys(call.who.user, &version, scope).await?;
    let key_data = rooms.remove(&room_id).and_then(|mut room| room.sessions.remove(&session_id));
    let key_data = key_data.ok_or_else(|| MatrixError::not_found("key not found"))?;
    Ok(get_backup_keys_for_session::v3::Response { key_data })
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
