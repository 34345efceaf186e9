//! Typing notifications.

use std::sync::Arc;

use colonnade_model::{MatrixError, ruma::RoomId};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::bodies::Payer;
use http::{Method, Request};
use serde::Deserialize;

use crate::{
    call::{read_json, session},
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// How long a user types who does not say, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 30_000;

/// Mounts the endpoints of this area. The library's type requires a timeout, the specification does
/// not.
pub(crate) fn mount(table: &mut Table) {
    for path in [
        "/_matrix/client/r0/rooms/{room_id}/typing/{user_id}",
        "/_matrix/client/v3/rooms/{room_id}/typing/{user_id}",
    ] {
        table.add_raw(Method::PUT, path, typing);
    }
}

#[derive(Deserialize)]
struct Body {
    typing: bool,
    timeout: Option<u64>,
}

async fn typing(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let session = session(&services, &parts).await?;
    let [room_id, user_id] = &args[..] else {
        return Err(MatrixError::internal("the route has two arguments").into());
    };
    let room_id = RoomId::parse(room_id.as_str())
        .map_err(|error| MatrixError::invalid_param(format!("the room id: {error}")))?;
    if *user_id != session.user_id.as_str() {
        return Err(MatrixError::forbidden("you cannot type for somebody else").into());
    }
    let payer = Payer::User(session.user);
    let body: Body = read_json(&services, payer, body).await?;
    let timeout_ms = body.timeout.unwrap_or(TIMEOUT_MS_DEFAULT);
    let timeout_ms = body.typing.then(|| i64::try_from(timeout_ms).unwrap_or(i64::MAX));
    services.typing.set(&session, &room_id, timeout_ms).await?;
    Ok(reply::ok(&serde_json::json!({})))
}
