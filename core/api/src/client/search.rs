//! Searching for events.

use colonnade_model::ruma::api::client::search::search_events::{self, v3::OrderBy};
use colonnade_rooms::Result;
use colonnade_users::{accounts::Session, limits::Class};
use colonnade_views::timeline::{Found, SearchRequest, Viewer};
use serde::Serialize;
use serde_json::{Value, json};

use super::rooms_read::bounded;
use crate::{
    call::{Call, from_json},
    reply::{self, Reply},
    table::Table,
};

/// Events in one answer if the client does not say.
const PAGE_DEFAULT: i64 = 10;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_rendered::<search_events::v3::Request, _>(search);
}

/// The answer to a search.
#[derive(Serialize)]
struct Searched {
    search_categories: Categories,
}

#[derive(Serialize)]
struct Categories {
    room_events: Found,
}

async fn search(call: Call<search_events::v3::Request, Session>) -> Result<Reply> {
    call.services.limits.require_left(Class::Other, call.who.user)?;
    let Some(criteria) = call.request.search_categories.room_events else {
        return Ok(reply::ok(&json!({ "search_categories": {} })));
    };
    // The library's type does not tell an absent context from one with the default size.
    let body: Value = from_json(&call.body)?;
    let asked = body["search_categories"]["room_events"].get("event_context").is_some();
    let around = criteria.event_context;
    let limit = criteria.filter.limit.map_or(PAGE_DEFAULT, bounded);
    let keys = criteria.keys.unwrap_or_default();
    let grouped = criteria.groupings.group_by;
    let query = SearchRequest {
        term: criteria.search_term,
        keys: keys.iter().map(|key| key.as_ref().to_owned()).collect(),
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        filter: criteria.filter,
        recent: criteria.order_by == Some(OrderBy::Recent),
        context: asked.then(|| {
            (bounded(around.before_limit), bounded(around.after_limit), around.include_profile)
        }),
        state: criteria.include_state.unwrap_or(false),
        group_by: grouped
            .iter()
            .filter_map(|group| group.key.as_ref().map(|key| key.as_ref().to_owned()))
            .collect(),
        from: call.request.next_batch,
    };
    let (limits, user) = (&call.services.limits, call.who.user);
    let admit = |cost| limits.check_cost(Class::Other, user, cost);
    let (viewer, growth) = (Viewer::from(&call.who), call.needed.growth());
    let room_events = call.services.timeline.search(&viewer, query, admit, &growth).await?;
    call.needed.keep(growth.into_reserved());
    Ok(reply::ok(&Searched { search_categories: Categories { room_events } }))
}
