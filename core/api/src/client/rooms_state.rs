//! Reading a room's state and members.

use colonnade_model::ruma::{
    OwnedMxcUri,
    api::client::{
        membership::{get_member_events, joined_members},
        state::{get_state_event_for_key, get_state_events},
    },
};
use colonnade_services::{Result, accounts::Session, timeline::Viewer};

use super::rooms_read::raws;
use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    use get_state_event_for_key::v3::Request as StateEvent;
    table
        .add::<get_state_events::v3::Request, _>(state)
        .add::<StateEvent, _>(state_event)
        .add::<get_member_events::v3::Request, _>(members)
        .add::<joined_members::v3::Request, _>(joined);
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

async fn state(
    call: Call<get_state_events::v3::Request, Session>,
) -> Result<get_state_events::v3::Response> {
    let viewer = Viewer::from(&call.who);
    let state = call.services.timeline.state(&viewer, &call.request.room_id).await?;
    Ok(get_state_events::v3::Response { room_state: raws(state) })
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

async fn members(
    call: Call<get_member_events::v3::Request, Session>,
) -> Result<get_member_events::v3::Response> {
    let viewer = Viewer::from(&call.who);
    let request = call.request;
    let (only, except) = (request.membership, request.not_membership);
    // Either condition lets an event through, as the specification says of their combination.
    let keep = |state: &_| match (&only, &except) {
        (None, None) => true,
        (Some(only), None) => only == state,
        (None, Some(except)) => except != state,
        (Some(only), Some(except)) => only == state || except != state,
    };
    let at = request.at.as_deref();
    let chunk = call.services.timeline.members(&viewer, &request.room_id, at, keep).await?;
    Ok(get_member_events::v3::Response { chunk: raws(chunk) })
}

async fn joined(
    call: Call<joined_members::v3::Request, Session>,
) -> Result<joined_members::v3::Response> {
    let viewer = Viewer::from(&call.who);
    let members = call.services.timeline.joined_members(&viewer, &call.request.room_id).await?;
    let joined = members.into_iter().map(|(user, profile)| {
        let avatar_url = profile.avatar_url.map(OwnedMxcUri::from);
        (user, joined_members::v3::RoomMember { display_name: profile.display_name, avatar_url })
    });
    Ok(joined_members::v3::Response { joined: joined.collect() })
}
