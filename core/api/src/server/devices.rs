//! What other servers ask about devices of users here, and their keys.

use colonnade_model::ruma::api::federation::{
    device::get_devices::v1 as get_devices,
    keys::{claim_keys::v1 as claim_keys, get_keys::v1 as get_keys},
};
use colonnade_rooms::Result;
use serde_json::{Value, json};

use super::endpoint::Origin;
use crate::{call::Call, table::Table};

/// Names of all devices of a large room.
const NAMES_BYTES_MAX: usize = 1024 * 1024;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_signed::<get_devices::Request, _, _, _>(0, devices)
        .add_signed::<get_keys::Request, _, _, _>(NAMES_BYTES_MAX, query)
        .add_signed::<claim_keys::Request, _, _, _>(NAMES_BYTES_MAX, claim);
}

async fn devices(call: Call<get_devices::Request, Origin>) -> Result<Value> {
    let growth = call.needed.growth();
    let list = call.services.encryption.device_list(&call.request.user_id, &growth).await?;
    call.needed.keep(growth.into_reserved());
    Ok(list)
}

async fn query(call: Call<get_keys::Request, Origin>) -> Result<Value> {
    let growth = call.needed.growth();
    let wanted = call.request.device_keys;
    let found = call.services.encryption.query_for_server(wanted, &growth).await?;
    call.needed.keep(growth.into_reserved());
    Ok(json!({
        "device_keys": found.device_keys,
        "master_keys": found.master_keys,
        "self_signing_keys": found.self_signing_keys,
    }))
}

async fn claim(call: Call<claim_keys::Request, Origin>) -> Result<Value> {
    let (origin, wanted) = (call.who.server, call.request.one_time_keys);
    let keys = call.services.encryption.claim_for_server(origin.as_str(), wanted).await?;
    Ok(json!({ "one_time_keys": keys }))
}
