//! Messages from device to device.

use colonnade_model::ruma::api::client::to_device::send_event_to_device;
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<send_event_to_device::v3::Request, _>(send);
}

async fn send(
    call: Call<send_event_to_device::v3::Request, Session>,
) -> Result<send_event_to_device::v3::Response> {
    call.services.to_device.send(&call.who, call.request).await?;
    Ok(send_event_to_device::v3::Response {})
}
