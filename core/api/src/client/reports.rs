//! Reports of rooms, events and users.

use colonnade_model::ruma::api::client::{
    reporting::report_user,
    room::{report_content, report_room},
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<report_room::v3::Request, _>(room);
    table.add::<report_content::v3::Request, _>(event);
    table.add::<report_user::v3::Request, _>(user);
}

async fn room(call: Call<report_room::v3::Request, Session>) -> Result<report_room::v3::Response> {
    let report_room::v3::Request { room_id, reason } = call.request;
    call.services.reports.room(&call.who, &room_id, &reason).await?;
    Ok(report_room::v3::Response {})
}

async fn event(
    call: Call<report_content::v3::Request, Session>,
) -> Result<report_content::v3::Response> {
    let report_content::v3::Request { room_id, event_id, reason } = call.request;
    let reason = reason.unwrap_or_default();
    call.services.reports.event(&call.who, &room_id, &event_id, &reason).await?;
    Ok(report_content::v3::Response {})
}

async fn user(call: Call<report_user::v3::Request, Session>) -> Result<report_user::v3::Response> {
    let report_user::v3::Request { user_id, reason } = call.request;
    call.services.reports.user(&call.who, &user_id, &reason).await?;
    Ok(report_user::v3::Response {})
}
