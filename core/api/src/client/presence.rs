//! Presence.

use colonnade_model::{
    MatrixError,
    ruma::{
        api::client::presence::{get_presence, set_presence},
        presence::PresenceState,
    },
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use serde_json::Value;

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<set_presence::v3::Request, _>(set).add_json::<get_presence::v3::Request, _>(get);
}

async fn set(call: Call<set_presence::v3::Request, Session>) -> Result<set_presence::v3::Response> {
    let set_presence::v3::Request { user_id, presence, status_msg } = call.request;
    if user_id != call.who.user_id {
        return Err(MatrixError::forbidden("you cannot set the presence of somebody else").into());
    }
    let known = [PresenceState::Online, PresenceState::Unavailable, PresenceState::Offline];
    if !known.contains(&presence) {
        let why = "presence is one of online, unavailable, offline";
        return Err(MatrixError::invalid_param(why).into());
    }
    call.services.presence.set(&call.who, presence, status_msg)?;
    Ok(set_presence::v3::Response {})
}

async fn get(call: Call<get_presence::v3::Request, Session>) -> Result<Value> {
    call.services.presence.get(&call.who, &call.request.user_id).await
}
