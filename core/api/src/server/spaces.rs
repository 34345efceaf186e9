//! What other servers ask about spaces.

use colonnade_model::ruma::api::federation::space::get_hierarchy::v1 as get_hierarchy;
use colonnade_rooms::Result;
use serde_json::{Value, json};

use super::endpoint::Origin;
use crate::{call::Call, client::spaces::whole, table::Table};

/// A request without a body.
const NO_BODY: usize = 0;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_signed::<get_hierarchy::Request, _, _, _>(NO_BODY, hierarchy);
}

async fn hierarchy(call: Call<get_hierarchy::Request, Origin>) -> Result<Value> {
    let get_hierarchy::Request { room_id, suggested_only, .. } = call.request;
    let directory = &call.services.directory;
    let space = directory.space_for(&call.who.server, &room_id, suggested_only).await?;
    let children: Vec<Value> = space.children.iter().map(whole).collect::<Result<_>>()?;
    Ok(json!({
        "room": whole(&space.room)?,
        "children": children,
        "inaccessible_children": space.inaccessible,
    }))
}
