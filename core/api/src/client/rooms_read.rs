//! Reading a room's past: messages, context, single events, the event at a time.

use std::sync::Arc;

use colonnade_model::ruma::{
    RoomId, UInt,
    api::{
        Direction,
        client::{
            context::get_context,
            message::get_message_events,
            room::{get_event_by_timestamp, get_room_event},
        },
    },
    serde::Raw,
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::accounts::Session;
use colonnade_views::{
    sync::filter::Relations,
    timeline::{self, PageRequest, StateEvents, Viewer},
};
use http::Request;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    call::{Call, query, session},
    pieces,
    reply::Reply,
    request::ByteBody,
    request::JSON_BYTES_MAX,
    table::{Table, decode},
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_raw_for::<get_message_events::v3::Request, _, _>(messages)
        .add_rendered::<get_context::v3::Request, _>(context)
        .add::<get_room_event::v3::Request, _>(event)
        .add::<get_event_by_timestamp::v1::Request, _>(event_at_time);
}

/// Wraps rendered events as the type the response wants.
pub(super) fn raws<T>(events: Vec<Box<RawValue>>) -> Vec<Raw<T>> {
    events.into_iter().map(Raw::from_json).collect()
}

pub(super) fn bounded(limit: UInt) -> i64 {
    i64::try_from(u64::from(limit)).unwrap_or(i64::MAX)
}

pub(crate) fn direction(direction: Direction) -> timeline::Direction {
    match direction {
        Direction::Backward => timeline::Direction::Backward,
        Direction::Forward => timeline::Direction::Forward,
    }
}

async fn messages(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    if query(&parts, "dir").is_none()
        && let Some(room_id) = args.first().and_then(|id| RoomId::parse(id).ok())
    {
        // Who may not look into the room hears that, rather than what else is wrong.
        let session = session(&services, &parts).await?;
        services.timeline.open(&Viewer::from(&session), &room_id).await?;
    }
    // The library's type does not know these.
    let relations = query(&parts, "filter")
        .and_then(|filter| serde_json::from_str::<Relations>(&filter).ok())
        .unwrap_or_default();
    let request = Request::from_parts(parts, body);
    let call =
        decode::<get_message_events::v3::Request>(services, request, &args, JSON_BYTES_MAX).await?;
    let request = call.request;
    let page = PageRequest {
        from: request.from,
        to: request.to,
        direction: direction(request.dir),
        limit: bounded(request.limit),
        filter: request.filter,
        relations,
    };
    let timeline = &call.services.timeline;
    let page = timeline.page(&Viewer::from(&call.who), &request.room_id, page).await?;
    let found = Messages { start: page.start, end: page.end, chunk: page.chunk };
    with_state(&call.services, &found, page.state).await
}

/// A page of the timeline, without the state.
#[derive(Serialize)]
struct Messages {
    start: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
    chunk: Vec<Box<RawValue>>,
}

/// What stands around an event, without the state; the library's type leaves out what is empty.
#[derive(Serialize)]
struct Context {
    start: String,
    end: String,
    events_before: Vec<Box<RawValue>>,
    event: Box<RawValue>,
    events_after: Vec<Box<RawValue>>,
}

/// Answers with an object and the state that goes with it.
async fn with_state<T: Serialize>(
    services: &Services,
    object: &T,
    state: StateEvents,
) -> Result<Reply> {
    let mut open = pieces::text(object)?;
    open.truncate(open.len() - "}".len());
    pieces::list(&services.answers, open + ",\"state\":[", pieces::events(state), "]}").await
}

async fn context(call: Call<get_context::v3::Request, Session>) -> Result<Reply> {
    let request = call.request;
    let viewer = Viewer::from(&call.who);
    let limit = bounded(request.limit);
    let found = call
        .services
        .timeline
        .surroundings(&viewer, &request.room_id, &request.event_id, limit, request.filter)
        .await?;
    let context = Context {
        start: found.start,
        end: found.end,
        events_before: found.before,
        event: found.event,
        events_after: found.after,
    };
    with_state(&call.services, &context, found.state).await
}

async fn event(
    call: Call<get_room_event::v3::Request, Session>,
) -> Result<get_room_event::v3::Response> {
    let viewer = Viewer::from(&call.who);
    let request = call.request;
    let event = call.services.timeline.event(&viewer, &request.room_id, &request.event_id).await?;
    Ok(get_room_event::v3::Response { event: Raw::from_json(event) })
}

async fn event_at_time(
    call: Call<get_event_by_timestamp::v1::Request, Session>,
) -> Result<get_event_by_timestamp::v1::Response> {
    let viewer = Viewer::from(&call.who);
    let request = call.request;
    let ts_ms = bounded(request.ts.0);
    let way = direction(request.dir);
    let found = call.services.timeline.at_time(&viewer, &request.room_id, ts_ms, way).await?;
    let (event_id, origin_server_ts) = found;
    Ok(get_event_by_timestamp::v1::Response { event_id, origin_server_ts })
}
