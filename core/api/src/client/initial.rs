//! `/initialSync`, of all rooms or of one.

use std::sync::Arc;

use colonnade_model::{MatrixError, ruma::RoomId};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_views::sync::InitialRequest;
use http::{Method, Request, request::Parts};

use super::{events::number, sync::sent};
use crate::{
    call::{query, session},
    needs::Needed,
    reply::Reply,
    request::ByteBody,
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    let of_room = [
        "/_matrix/client/v3/rooms/{room_id}/initialSync",
        "/_matrix/client/r0/rooms/{room_id}/initialSync",
    ];
    for path in of_room {
        table.add_raw(Method::GET, path, of_one);
    }
    for path in ["/_matrix/client/v3/initialSync", "/_matrix/client/r0/initialSync"] {
        table.add_raw(Method::GET, path, of_all);
    }
}

async fn of_all(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let who = session(&services, &parts).await?;
    let answer = services.sync.initial(&who, understood(&parts)?).await?;
    Ok(sent(answer, &Needed::of(&parts.extensions)))
}

async fn of_one(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let who = session(&services, &parts).await?;
    let room_id = args.first().and_then(|id| RoomId::parse(id).ok());
    let room_id = room_id.ok_or_else(|| MatrixError::invalid_param("this is no room's id"))?;
    let answer = services.sync.initial_of_room(&who, &room_id, understood(&parts)?).await?;
    Ok(sent(answer, &Needed::of(&parts.extensions)))
}

fn understood(parts: &Parts) -> Result<InitialRequest, MatrixError> {
    let archived = match query(parts, "archived").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(MatrixError::invalid_param("archived is one of true, false")),
    };
    Ok(InitialRequest { limit: number(parts, "limit")?, archived })
}
