//! What a room shows of itself, and the rooms below a space.

use colonnade_model::ruma::api::client::{room::get_summary, space::get_hierarchy};
use colonnade_services::{Result, accounts::Session, directory::HierarchyWish};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<get_summary::v1::Request, _>(summary);
    // The path of the first proposal, which clients still use.
    table.add_at::<get_summary::v1::Request, _>(
        "/_matrix/client/unstable/im.nheko.summary/summary/{room_id_or_alias}",
        summary,
    );
    table.add::<get_hierarchy::v1::Request, _>(hierarchy);
}

async fn summary(
    call: Call<get_summary::v1::Request, Option<Session>>,
) -> Result<get_summary::v1::Response> {
    let name = &call.request.room_id_or_alias;
    let (summary, membership) = call.services.directory.summary(call.who.as_ref(), name).await?;
    Ok(get_summary::v1::Response { summary, membership })
}

async fn hierarchy(
    call: Call<get_hierarchy::v1::Request, Session>,
) -> Result<get_hierarchy::v1::Response> {
    let get_hierarchy::v1::Request { room_id, from, limit, max_depth, suggested_only } =
        call.request;
    let wish = HierarchyWish {
        from,
        limit: limit.map(u64::from),
        max_depth: max_depth.map(u64::from),
        suggested_only,
    };
    let page = call.services.directory.hierarchy(&call.who, &room_id, &wish).await?;
    Ok(get_hierarchy::v1::Response { rooms: page.rooms, next_batch: page.next })
}
