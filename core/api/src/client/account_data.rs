//! Account data, global and per room, and tags.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        RoomId, UserId,
        api::client::{
            config::{
                get_global_account_data, get_room_account_data, set_global_account_data,
                set_room_account_data,
            },
            tag::{create_tag, delete_tag, get_tags},
        },
        serde::Raw,
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::accounts::Session;
use http::{Method, Request};
use serde_json::{Value, json};

use super::profiles::require_own;
use crate::{
    call::{Call, session},
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// Where a user's account data is deleted; it is a proposal still.
const DELETE_GLOBAL: &str =
    "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/account_data/{event_type}";
/// Where that about a room is.
const DELETE_OF_ROOM: &str = "/_matrix/client/unstable/org.matrix.msc3391/user/{user_id}/rooms/{room_id}/account_data/{event_type}";

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<get_global_account_data::v3::Request, _>(get_global);
    table.add::<set_global_account_data::v3::Request, _>(set_global);
    table.add::<get_room_account_data::v3::Request, _>(get_of_room);
    table.add::<set_room_account_data::v3::Request, _>(set_of_room);
    table.add_raw(Method::DELETE, DELETE_GLOBAL, delete);
    table.add_raw(Method::DELETE, DELETE_OF_ROOM, delete);
    table.add_json::<get_tags::v3::Request, _>(tags);
    table.add_json::<create_tag::v3::Request, _>(put_tag);
    table.add::<delete_tag::v3::Request, _>(delete_tag);
}

async fn get_global(
    call: Call<get_global_account_data::v3::Request, Session>,
) -> Result<get_global_account_data::v3::Response> {
    let get_global_account_data::v3::Request { user_id, event_type } = call.request;
    require_own(&call.who, &user_id)?;
    let event_type = event_type.to_string();
    let body = call.services.account_data.get(&call.who, None, &event_type).await?;
    Ok(get_global_account_data::v3::Response { account_data: Raw::from_json(body) })
}

async fn set_global(
    call: Call<set_global_account_data::v3::Request, Session>,
) -> Result<set_global_account_data::v3::Response> {
    let set_global_account_data::v3::Request { user_id, event_type, data } = call.request;
    require_own(&call.who, &user_id)?;
    let (event_type, body) = (event_type.to_string(), data.into_json());
    call.services.account_data.set(&call.who, None, &event_type, body).await?;
    Ok(set_global_account_data::v3::Response {})
}

async fn get_of_room(
    call: Call<get_room_account_data::v3::Request, Session>,
) -> Result<get_room_account_data::v3::Response> {
    let get_room_account_data::v3::Request { user_id, room_id, event_type } = call.request;
    require_own(&call.who, &user_id)?;
    let event_type = event_type.to_string();
    let body = call.services.account_data.get(&call.who, Some(&room_id), &event_type).await?;
    Ok(get_room_account_data::v3::Response { account_data: Raw::from_json(body) })
}

async fn set_of_room(
    call: Call<set_room_account_data::v3::Request, Session>,
) -> Result<set_room_account_data::v3::Response> {
    let set_room_account_data::v3::Request { user_id, room_id, event_type, data } = call.request;
    require_own(&call.who, &user_id)?;
    let (event_type, body) = (event_type.to_string(), data.into_json());
    call.services.account_data.set(&call.who, Some(&room_id), &event_type, body).await?;
    Ok(set_room_account_data::v3::Response {})
}

/// Deletes a piece of account data: about a room, if the path names one.
async fn delete(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let session = session(&services, &parts).await?;
    let (user_id, room_id, event_type) = match &args[..] {
        [user_id, event_type] => (user_id, None, event_type),
        [user_id, room_id, event_type] => (user_id, Some(room_id), event_type),
        _ => return Err(MatrixError::internal("a path with other parts").into()),
    };
    let user_id = UserId::parse(user_id.as_str());
    let user_id = user_id.map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    require_own(&session, &user_id)?;
    let room_id = room_id.map(|room_id| RoomId::parse(room_id.as_str())).transpose();
    let room_id = room_id.map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    services.account_data.delete(&session, room_id.as_deref(), event_type).await?;
    Ok(reply::ok(&json!({})))
}

async fn tags(call: Call<get_tags::v3::Request, Session>) -> Result<Value> {
    let get_tags::v3::Request { user_id, room_id } = call.request;
    require_own(&call.who, &user_id)?;
    call.services.account_data.tags(&call.who, &room_id).await
}

async fn put_tag(call: Call<create_tag::v3::Request, Session>) -> Result<Value> {
    let create_tag::v3::Request { user_id, room_id, tag, .. } = call.request;
    require_own(&call.who, &user_id)?;
    // As it came: the typed value would drop what it does not know.
    let info: Option<Value> = serde_json::from_slice(&call.body).ok();
    let info = info.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
    call.services.account_data.set_tag(&call.who, &room_id, tag, Some(info)).await?;
    Ok(Value::Object(serde_json::Map::new()))
}

async fn delete_tag(
    call: Call<delete_tag::v3::Request, Session>,
) -> Result<delete_tag::v3::Response> {
    let delete_tag::v3::Request { user_id, room_id, tag } = call.request;
    require_own(&call.who, &user_id)?;
    call.services.account_data.set_tag(&call.who, &room_id, tag, None).await?;
    Ok(delete_tag::v3::Response {})
}
