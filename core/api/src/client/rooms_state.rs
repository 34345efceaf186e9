//! Reading a room's state and members.

use colonnade_model::ruma::api::client::{
    membership::{get_member_events, joined_members},
    state::{get_state_event_for_key, get_state_events},
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use colonnade_views::timeline::Viewer;

use crate::{call::Call, pieces, reply::Reply, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    use get_state_event_for_key::v3::Request as StateEvent;
    table
        .add_rendered::<get_state_events::v3::Request, _>(state)
        .add::<StateEvent, _>(state_event)
        .add_rendered::<get_member_events::v3::Request, _>(members)
        .add_rendered::<joined_members::v3::Request, _>(joined);
    // The empty state key may be left out, with or without its slash.
    for path in [
        "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
        "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
        "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
        "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
    ] {
        table.add_at::<StateEvent, _>(path, state_event);
    }
}

async fn state(call: Call<get_state_events::v3::Request, Session>) -> Result<Reply> {
    let viewer = Viewer::from(&call.who);
    let state = call.services.timeline.state(viewer, &call.request.room_id).await?;
    pieces::list(&call.services.answers, "[".to_owned(), pieces::events(state), "]").await
}

async fn state_event(
    call: Call<get_state_event_for_key::v3::Request, Session>,
) -> Result<get_state_event_for_key::v3::Response> {
    use get_state_event_for_key::v3::StateEventFormat;
    let viewer = Viewer::from(&call.who);
    let request = call.request;
    let whole = request.format == StateEventFormat::Event;
    let event_type = request.event_type.to_string();
    let timeline = &call.services.timeline;
    let (room, key) = (&request.room_id, &request.state_key);
    let json = timeline.state_event(&viewer, room, &event_type, key, whole).await?;
    Ok(get_state_event_for_key::v3::Response { event_or_content: json })
}

async fn members(call: Call<get_member_events::v3::Request, Session>) -> Result<Reply> {
    let viewer = Viewer::from(&call.who);
    let request = call.request;
    let (only, except) = (request.membership, request.not_membership);
    // Either condition lets an event through, as the specification says of their combination.
    let keep = move |state: &_| match (&only, &except) {
        (None, None) => true,
        (Some(only), None) => only == state,
        (None, Some(except)) => except != state,
        (Some(only), Some(except)) => only == state || except != state,
    };
    let at = request.at.as_deref();
    let chunk = call.services.timeline.members(viewer, &request.room_id, at, keep).await?;
    pieces::list(&call.services.answers, "{\"chunk\":[".to_owned(), pieces::events(chunk), "]}")
        .await
}

async fn joined(call: Call<joined_members::v3::Request, Session>) -> Result<Reply> {
    let viewer = Viewer::from(&call.who);
    let members = call.services.timeline.joined_members(&viewer, &call.request.room_id).await?;
    pieces::list(&call.services.answers, "{\"joined\":{".to_owned(), pieces::members(members), "}}")
        .await
}
