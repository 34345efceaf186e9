//! Typing notifications.

use colonnade_model::{
    MatrixError,
    ruma::api::client::typing::create_typing_event::v3::{Request, Response, Typing},
};
use colonnade_services::{Result, accounts::Session};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<Request, _, _>(typing);
}

async fn typing(call: Call<Request, Session>) -> Result<Response> {
    if call.request.user_id != call.who.user_id {
        return Err(MatrixError::forbidden("you cannot type for somebody else").into());
    }
    let timeout_ms = match call.request.state {
        Typing::No => None,
        Typing::Yes(info) => Some(i64::try_from(info.timeout.as_millis()).unwrap_or(i64::MAX)),
    };
    call.services.typing.set(&call.who, &call.request.room_id, timeout_ms).await?;
    Ok(Response {})
}
