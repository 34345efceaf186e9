//! What a room shows of itself, and the rooms below a space.

use colonnade_model::ruma::api::client::{room::get_summary, space::get_hierarchy};
use colonnade_rooms::{Error, Result};
use colonnade_users::accounts::Session;
use colonnade_views::directory::HierarchyRequest;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_summary::v1::Request, _>(summary);
    // The path of the first proposal, which clients still use.
    table.add_json_at::<get_summary::v1::Request, _>(
        "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}",
        summary,
    );
    table.add_json::<get_hierarchy::v1::Request, _>(hierarchy);
}

async fn summary(call: Call<get_summary::v1::Request, Option<Session>>) -> Result<Value> {
    let name = &call.request.room_id_or_alias;
    let (summary, membership) = call.services.directory.summary(call.who.as_ref(), name).await?;
    let mut shown = whole(&summary)?;
    if let Some(membership) = membership {
        shown["membership"] = json!(membership);
    }
    Ok(shown)
}

async fn hierarchy(call: Call<get_hierarchy::v1::Request, Session>) -> Result<Value> {
    let get_hierarchy::v1::Request { room_id, from, limit, max_depth, suggested_only } =
        call.request;
    let query = HierarchyRequest {
        from,
        limit: limit.map(u64::from),
        max_depth: max_depth.map(u64::from),
        suggested_only,
    };
    let page = call.services.directory.hierarchy(&call.who, &room_id, &query).await?;
    let rooms: Vec<Value> = page.rooms.iter().map(whole).collect::<Result<_>>()?;
    let mut body = json!({ "rooms": rooms });
    if let Some(next) = page.next {
        body["next_batch"] = next.into();
    }
    Ok(body)
}

/// Renders a room; the library's type lists the rooms whose members may join only where the join
/// rule has such a list.
pub(crate) fn whole(room: &impl Serialize) -> Result<Value> {
    let shown = serde_json::to_value(room);
    let mut shown = shown.map_err(|error| Error::internal("render a room", error))?;
    if shown.get("allowed_room_ids").is_none() {
        shown["allowed_room_ids"] = json!([]);
    }
    Ok(shown)
}
