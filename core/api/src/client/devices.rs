//! A user's devices: list, get, rename, delete.

use colonnade_model::ruma::api::client::device::{
    delete_device, delete_devices, get_device, get_devices, update_device,
};
use colonnade_rooms::Result;
use colonnade_users::{accounts::Session, devices::Device};
use serde_json::{Value, json};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_devices::v3::Request, _>(list);
    table.add_json::<get_device::v3::Request, _>(get);
    table.add::<update_device::v3::Request, _>(rename);
    table.add_guarded::<delete_device::v3::Request, _>(delete);
    table.add_guarded::<delete_devices::v3::Request, _>(delete_many);
}

/// Leaves out what is not known; the library's type would write `null`, which the specification
/// does not allow.
fn render(device: Device) -> Value {
    let mut body = json!({ "device_id": device.device_id });
    if let Some(name) = device.display_name {
        body["display_name"] = json!(name);
    }
    if let Some(ts) = device.last_seen_ts {
        body["last_seen_ts"] = json!(ts);
    }
    if let Some(ip) = device.last_seen_ip {
        body["last_seen_ip"] = json!(ip);
    }
    body
}

async fn list(call: Call<get_devices::v3::Request, Session>) -> Result<Value> {
    let devices = call.services.devices.list(&call.who).await?;
    let devices: Vec<Value> = devices.into_iter().map(render).collect();
    Ok(json!({ "devices": devices }))
}

async fn get(call: Call<get_device::v3::Request, Session>) -> Result<Value> {
    let device = call.services.devices.get(&call.who, &call.request.device_id).await?;
    Ok(render(device))
}

async fn rename(
    call: Call<update_device::v3::Request, Session>,
) -> Result<update_device::v3::Response> {
    let update_device::v3::Request { device_id, display_name } = call.request;
    call.services.devices.rename(&call.who, &device_id, display_name).await?;
    Ok(update_device::v3::Response {})
}

async fn delete(
    call: Call<delete_device::v3::Request, Session>,
) -> Result<delete_device::v3::Response> {
    let auth = call.auth()?;
    let delete_device::v3::Request { device_id, .. } = call.request;
    let action = format!("devices/{device_id}");
    call.services.accounts.uia.check(&call.who, auth.as_ref(), &action).await?;
    call.services.devices.delete(&call.who, &[device_id]).await?;
    Ok(delete_device::v3::Response {})
}

async fn delete_many(
    call: Call<delete_devices::v3::Request, Session>,
) -> Result<delete_devices::v3::Response> {
    let auth = call.auth()?;
    let delete_devices::v3::Request { mut devices, .. } = call.request;
    devices.sort();
    let names: Vec<&str> = devices.iter().map(|device| device.as_str()).collect();
    let action = format!("delete_devices/{}", names.join("/"));
    call.services.accounts.uia.check(&call.who, auth.as_ref(), &action).await?;
    call.services.devices.delete(&call.who, &devices).await?;
    Ok(delete_devices::v3::Response {})
}
