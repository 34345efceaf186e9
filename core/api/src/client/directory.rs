//! Aliases, the visibility of rooms, and the list of published rooms.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedRoomId, RoomId, ServerName,
        api::client::{
            alias::{create_alias, delete_alias, get_alias},
            directory::{get_public_rooms, get_public_rooms_filtered, get_room_visibility},
            room::{Visibility, aliases},
        },
        directory::RoomNetwork,
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_services::Services;
use colonnade_users::{accounts::Session, bodies::Payer};
use colonnade_views::directory::{PublishedPage, PublishedRequest};
use http::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    call::{Call, read_json, session},
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<create_alias::v3::Request, _>(create);
    table.add::<get_alias::v3::Request, _>(resolve);
    table.add::<delete_alias::v3::Request, _>(delete);
    table.add::<aliases::v3::Request, _>(aliases_of);
    table.add::<get_room_visibility::v3::Request, _>(visibility);
    for path in [
        "/_matrix/client/r0/directory/list/room/{room_id}",
        "/_matrix/client/v3/directory/list/room/{room_id}",
    ] {
        table.add_raw(Method::PUT, path, set_visibility);
    }
    // No server stands for ours.
    table.add_json_without_empty::<get_public_rooms::v3::Request, _>(list);
    table.add_json_without_empty::<get_public_rooms_filtered::v3::Request, _>(list_filtered);
}

async fn create(
    call: Call<create_alias::v3::Request, Session>,
) -> Result<create_alias::v3::Response> {
    let create_alias::v3::Request { room_alias, room_id } = call.request;
    call.services.directory.create_alias(&call.who, &room_alias, &room_id).await?;
    Ok(create_alias::v3::Response {})
}

async fn resolve(call: Call<get_alias::v3::Request, ()>) -> Result<get_alias::v3::Response> {
    let (room_id, servers) = call.services.federation.resolve(&call.request.room_alias).await?;
    Ok(get_alias::v3::Response { room_id, servers })
}

async fn delete(
    call: Call<delete_alias::v3::Request, Session>,
) -> Result<delete_alias::v3::Response> {
    call.services.directory.delete_alias(&call.who, &call.request.room_alias).await?;
    Ok(delete_alias::v3::Response {})
}

async fn aliases_of(call: Call<aliases::v3::Request, Session>) -> Result<aliases::v3::Response> {
    let aliases = call.services.directory.aliases(&call.who, &call.request.room_id).await?;
    Ok(aliases::v3::Response { aliases })
}

async fn visibility(
    call: Call<get_room_visibility::v3::Request, ()>,
) -> Result<get_room_visibility::v3::Response> {
    let published = call.services.directory.is_published(&call.request.room_id).await?;
    let visibility = if published { Visibility::Public } else { Visibility::Private };
    Ok(get_room_visibility::v3::Response { visibility })
}

/// The body of a change of visibility; the library's type does not know that it may be empty.
#[derive(Deserialize)]
struct NewVisibility {
    #[serde(default)]
    visibility: RequestedVisibility,
}

#[derive(Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum RequestedVisibility {
    #[default]
    Public,
    Private,
}

async fn set_visibility(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let session = session(&services, &parts).await?;
    let payer = Payer::User(session.user);
    let requested: NewVisibility = read_json(&services, payer, body).await?;
    let room_id: Option<OwnedRoomId> = args.first().and_then(|id| RoomId::parse(id).ok());
    let room_id = room_id.ok_or_else(|| MatrixError::invalid_param("this is no room id"))?;
    let public = requested.visibility == RequestedVisibility::Public;
    services.directory.publish(&session, &room_id, public).await?;
    Ok(reply::ok(&json!({})))
}

async fn list(call: Call<get_public_rooms::v3::Request, ()>) -> Result<Value> {
    let get_public_rooms::v3::Request { limit, since, server } = call.request;
    if let Some(server) = elsewhere(&call.services, server.as_deref()) {
        let query = json!({ "limit": limit, "since": since });
        return call.services.federation.public_rooms(server, &some(query)).await;
    }
    let request = PublishedRequest { limit: limit.map(u64::from), since, ..Default::default() };
    rendered(call.services.directory.published(request).await?)
}

async fn list_filtered(
    call: Call<get_public_rooms_filtered::v3::Request, Session>,
) -> Result<Value> {
    let get_public_rooms_filtered::v3::Request { server, limit, since, filter, room_network } =
        call.request;
    if matches!(room_network, RoomNetwork::ThirdParty(_)) {
        // No application service brings rooms of another network here.
        return Ok(json!({ "chunk": [], "total_room_count_estimate": 0 }));
    }
    if let Some(server) = elsewhere(&call.services, server.as_deref()) {
        let query = json!({ "limit": limit, "since": since, "filter": filter });
        return call.services.federation.public_rooms(server, &some(query)).await;
    }
    let request = PublishedRequest {
        limit: limit.map(u64::from),
        since,
        search: filter.generic_search_term,
        types: filter.room_types,
    };
    rendered(call.services.directory.published(request).await?)
}

/// Returns the server whose list is wanted, if that is another one.
fn elsewhere<'s>(services: &Services, server: Option<&'s ServerName>) -> Option<&'s ServerName> {
    server.filter(|server| **server != *services.context.server_name)
}

/// Leaves out what is not said.
fn some(mut query: Value) -> Value {
    if let Some(fields) = query.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    query
}

/// The library's type leaves out the join rule of rooms that everybody may join.
pub(crate) fn rendered(page: PublishedPage) -> Result<Value> {
    let mut chunk = Vec::with_capacity(page.rooms.len());
    for room in &page.rooms {
        let shown = serde_json::to_value(room);
        let mut shown = shown.map_err(|error| Error::internal("render a room", error))?;
        shown["join_rule"] = json!(room.join_rule);
        chunk.push(shown);
    }
    let mut body = json!({ "chunk": chunk, "total_room_count_estimate": page.total });
    for (key, token) in [("next_batch", page.next), ("prev_batch", page.prev)] {
        if let Some(token) = token {
            body[key] = token.into();
        }
    }
    Ok(body)
}
