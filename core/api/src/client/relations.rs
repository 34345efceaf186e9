//! Related events and threads.

use colonnade_model::ruma::api::{
    Direction,
    client::{
        relations::{
            get_relating_events, get_relating_events_with_rel_type,
            get_relating_events_with_rel_type_and_event_type,
        },
        threads::get_threads,
    },
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use colonnade_views::timeline::{RelatedRequest, Viewer};

use super::rooms_read::{bounded, raws};
use crate::{call::Call, table::Table};

/// How deep `recurse` looks.
const RECURSION_DEPTH: u32 = 3;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add::<get_relating_events::v1::Request, _>(related)
        .add::<get_relating_events_with_rel_type::v1::Request, _>(related_by)
        .add::<get_relating_events_with_rel_type_and_event_type::v1::Request, _>(related_by_and_of)
        .add::<get_threads::v1::Request, _>(threads);
}

/// Answers one of the three forms of the endpoint, which differ by what the path names.
macro_rules! page_of {
    ($call:ident, $module:ident, $rel_type:expr, $event_type:expr) => {{
        let request = $call.request;
        let viewer = Viewer::from(&$call.who);
        let wanted = RelatedRequest {
            rel_type: $rel_type(&request),
            event_type: $event_type(&request),
            recurse: request.recurse,
            from: request.from,
            to: request.to,
            forward: request.dir == Direction::Forward,
            limit: request.limit.map(bounded),
        };
        let (room, parent) = (&request.room_id, &request.event_id);
        let page = $call.services.timeline.related(&viewer, room, parent, wanted).await?;
        Ok($module::v1::Response {
            chunk: raws(page.chunk),
            next_batch: page.next,
            prev_batch: page.prev,
            recursion_depth: request.recurse.then_some(RECURSION_DEPTH.into()),
        })
    }};
}

async fn related(
    call: Call<get_relating_events::v1::Request, Session>,
) -> Result<get_relating_events::v1::Response> {
    use get_relating_events::v1::Request;
    page_of!(call, get_relating_events, |_: &Request| None, |_: &Request| None)
}

async fn related_by(
    call: Call<get_relating_events_with_rel_type::v1::Request, Session>,
) -> Result<get_relating_events_with_rel_type::v1::Response> {
    use get_relating_events_with_rel_type::v1::Request;
    let rel_type = |request: &Request| Some(request.rel_type.to_string());
    page_of!(call, get_relating_events_with_rel_type, rel_type, |_: &Request| None)
}

async fn related_by_and_of(
    call: Call<get_relating_events_with_rel_type_and_event_type::v1::Request, Session>,
) -> Result<get_relating_events_with_rel_type_and_event_type::v1::Response> {
    use get_relating_events_with_rel_type_and_event_type::v1::Request;
    let rel_type = |request: &Request| Some(request.rel_type.to_string());
    let event_type = |request: &Request| Some(request.event_type.to_string());
    page_of!(call, get_relating_events_with_rel_type_and_event_type, rel_type, event_type)
}

async fn threads(
    call: Call<get_threads::v1::Request, Session>,
) -> Result<get_threads::v1::Response> {
    let request = call.request;
    let viewer = Viewer::from(&call.who);
    let participated = request.include == get_threads::v1::IncludeThreads::Participated;
    let limit = request.limit.map(bounded);
    let timeline = &call.services.timeline;
    let from = request.from.as_deref();
    let page = timeline.threads(&viewer, &request.room_id, participated, from, limit).await?;
    Ok(get_threads::v1::Response { chunk: raws(page.chunk), next_batch: page.next })
}
