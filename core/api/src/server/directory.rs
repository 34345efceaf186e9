//! What other servers ask about aliases and public rooms of this one.

use colonnade_model::ruma::api::federation::{
    directory::{get_public_rooms::v1 as public_rooms, get_public_rooms_filtered::v1 as filtered},
    query::get_room_information::v1 as room_information,
};
use colonnade_rooms::Result;
use colonnade_views::directory::PublishedRequest;
use serde_json::{Value, json};

use super::endpoint::Origin;
use crate::{call::Call, client::directory::rendered, table::Table};

/// A filter with a page.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_signed::<room_information::Request, _, _, _>(0, alias)
        .add_signed::<public_rooms::Request, _, _, _>(0, list)
        .add_signed::<filtered::Request, _, _, _>(QUESTION_BYTES_MAX, list_filtered);
}

async fn alias(call: Call<room_information::Request, Origin>) -> Result<Value> {
    let (room_id, servers) = call.services.federation.alias(&call.request.room_alias).await?;
    Ok(json!({ "room_id": room_id, "servers": servers }))
}

async fn list(call: Call<public_rooms::Request, Origin>) -> Result<Value> {
    let public_rooms::Request { limit, since, .. } = call.request;
    let request = PublishedRequest { limit: limit.map(u64::from), since, ..Default::default() };
    rendered(call.services.directory.published(request).await?)
}

async fn list_filtered(call: Call<filtered::Request, Origin>) -> Result<Value> {
    let filtered::Request { limit, since, filter, .. } = call.request;
    let request = PublishedRequest {
        limit: limit.map(u64::from),
        since,
        search: filter.generic_search_term,
        types: filter.room_types,
    };
    rendered(call.services.directory.published(request).await?)
}
