//! `/events`, the stream from before there was `/sync`, and single events by their id alone. The library's
//! type asks for a room, and the specification does not.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{EventId, RoomId},
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_views::{
    sync::{EventsAnswer, EventsRequest},
    timeline::Viewer,
};
use http::{Method, Request, StatusCode, request::Parts};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    call::{query, session},
    needs::Needed,
    pieces,
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_raw(Method::GET, "/_matrix/client/v3/events", events)
        .add_raw(Method::GET, "/_matrix/client/r0/events", events)
        .add_raw(Method::GET, "/_matrix/client/v3/events/{event_id}", event)
        .add_raw(Method::GET, "/_matrix/client/r0/events/{event_id}", event);
}

/// A page of the stream.
#[derive(Serialize)]
struct Events {
    start: String,
    end: String,
    chunk: Vec<Box<RawValue>>,
}

async fn events(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _: Vec<String>,
) -> Result<Reply> {
    // Boxed, for a client that waits shall not carry what was needed to understand it.
    let (parts, _) = request.into_parts();
    let who = Box::pin(session(&services, &parts)).await?;
    let asked = understood(&parts)?;
    let needed = Needed::of(&parts.extensions);
    drop(parts);
    let EventsAnswer { start, end, chunk, reserved } = services.sync.events(&who, asked).await?;
    needed.keep(reserved);
    Ok(reply::json(StatusCode::OK, pieces::text(&Events { start, end, chunk })?))
}

fn understood(parts: &Parts) -> Result<EventsRequest, MatrixError> {
    let room_id = query(parts, "room_id").map(RoomId::parse).transpose();
    Ok(EventsRequest {
        from: query(parts, "from"),
        timeout_ms: number(parts, "timeout")?.unwrap_or(0),
        limit: number(parts, "limit")?,
        room_id: room_id.map_err(|_| MatrixError::invalid_param("room_id is not a room's id"))?,
    })
}

/// Returns a parameter of the query string that is a number from 0 on.
pub(super) fn number(parts: &Parts, name: &str) -> Result<Option<u64>, MatrixError> {
    let wrong = |_| MatrixError::invalid_param(format!("{name} is not a number from 0 on"));
    query(parts, name).map(|text| text.parse().map_err(wrong)).transpose()
}

async fn event(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let who = session(&services, &parts).await?;
    let event_id = args.first().and_then(|id| EventId::parse(id).ok());
    let event_id = event_id.ok_or_else(|| MatrixError::invalid_param("this is no event's id"))?;
    let event = services.timeline.event_anywhere(&Viewer::from(&who), &event_id).await?;
    Ok(reply::json(StatusCode::OK, event.get().to_owned()))
}
