//! Writing to rooms: creating and replacing them, sending events and state, redacting.

use crate::restricted::suspended;
use colonnade_model::session::Restriction;
use colonnade_model::{
    MatrixError,
    ruma::{
        api::client::{
            message::send_message_event,
            redact::redact_event,
            room::{Visibility, create_room, upgrade_room},
            state::send_state_event,
        },
        serde::Raw,
    },
};
use colonnade_rooms::Result;
use colonnade_services::lifecycle::{NewRoomRequest, Preset};
use colonnade_users::accounts::Session;
use serde_json::Value;

use crate::{call::Call, table::Table};

/// The longest transaction id; the specification has no limit, and clients use up to 64 characters.
const TXN_ID_BYTES_MAX: usize = 255;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add::<create_room::v3::Request, _>(create)
        .add::<send_message_event::v3::Request, _>(send)
        // Transaction ids may be left out by those who ask by POST.
        .add_without_txn::<send_message_event::v3::Request, _>(
            "/_matrix/client/v3/rooms/{room_id}/send/{event_type}",
            send_anew,
        )
        .add_without_txn::<send_message_event::v3::Request, _>(
            "/_matrix/client/r0/rooms/{room_id}/send/{event_type}",
            send_anew,
        )
        .add::<send_state_event::v3::Request, _>(set_state)
        // The state key may be left out, with and without the slash before it.
        .add_at::<send_state_event::v3::Request, _>(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
            set_state,
        )
        .add_at::<send_state_event::v3::Request, _>(
            "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
            set_state,
        )
        .add_at::<send_state_event::v3::Request, _>(
            "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
            set_state,
        )
        .add_at::<send_state_event::v3::Request, _>(
            "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
            set_state,
        )
        .add::<redact_event::v3::Request, _>(redact)
        .add_without_txn::<redact_event::v3::Request, _>(
            "/_matrix/client/v3/rooms/{room_id}/redact/{event_id}",
            redact_anew,
        )
        .add_without_txn::<redact_event::v3::Request, _>(
            "/_matrix/client/r0/rooms/{room_id}/redact/{event_id}",
            redact_anew,
        )
        .add::<upgrade_room::v3::Request, _>(upgrade);
}

async fn create(
    call: Call<create_room::v3::Request, Session>,
) -> Result<create_room::v3::Response> {
    let request = call.request;
    if !request.invite_3pid.is_empty() {
        let why = "this server cannot invite by e-mail address or telephone number";
        return Err(MatrixError::threepid_denied(why).into());
    }
    let preset = match request.preset {
        None => None,
        Some(create_room::v3::RoomPreset::PrivateChat) => Some(Preset::Private),
        Some(create_room::v3::RoomPreset::PublicChat) => Some(Preset::Public),
        Some(create_room::v3::RoomPreset::TrustedPrivateChat) => Some(Preset::TrustedPrivate),
        Some(other) => {
            let why = format!("there is no preset {other}");
            return Err(MatrixError::invalid_param(why).into());
        }
    };
    let new_room = NewRoomRequest {
        creation_content: request.creation_content.map(|raw| value(&raw)).transpose()?,
        initial_state: request.initial_state.iter().map(value).collect::<Result<_>>()?,
        invite: request.invite,
        is_direct: request.is_direct,
        name: request.name,
        topic: request.topic,
        power_levels: request.power_level_content_override.map(|raw| value(&raw)).transpose()?,
        preset,
        alias_name: request.room_alias_name,
        version: request.room_version,
        published: request.visibility == Visibility::Public,
    };
    let room_id = call.services.create_room(&call.who, new_room).await?;
    Ok(create_room::v3::Response { room_id })
}

fn value<T>(raw: &Raw<T>) -> Result<Value> {
    let parsed = serde_json::from_str(raw.json().get());
    Ok(parsed.map_err(|error| MatrixError::bad_json(error.to_string()))?)
}

async fn send(
    call: Call<send_message_event::v3::Request, Session>,
) -> Result<send_message_event::v3::Response> {
    let txn_id = call.request.txn_id.clone();
    send_as(call, Some(checked(txn_id.as_str())?)).await
}

async fn send_anew(
    call: Call<send_message_event::v3::Request, Session>,
) -> Result<send_message_event::v3::Response> {
    send_as(call, None).await
}

async fn send_as(
    call: Call<send_message_event::v3::Request, Session>,
    txn_id: Option<&str>,
) -> Result<send_message_event::v3::Response> {
    let request = call.request;
    let kind = request.event_type.to_string();
    let rooms = &call.services.rooms;
    let body = request.body.json();
    let sent = rooms.send(&call.who, &request.room_id, &kind, body, txn_id).await?;
    Ok(send_message_event::v3::Response { event_id: sent.event_id })
}

async fn set_state(
    call: Call<send_state_event::v3::Request, Session>,
) -> Result<send_state_event::v3::Response> {
    let request = call.request;
    let kind = request.event_type.to_string();
    let (key, body) = (&request.state_key, request.body.json());
    let services = &call.services;
    let sent = services.set_state(&call.who, &request.room_id, &kind, key, body).await?;
    Ok(send_state_event::v3::Response { event_id: sent.event_id })
}

async fn redact(
    call: Call<redact_event::v3::Request, Session>,
) -> Result<redact_event::v3::Response> {
    let txn_id = call.request.txn_id.clone();
    redact_as(call, Some(checked(txn_id.as_str())?)).await
}

async fn redact_anew(
    call: Call<redact_event::v3::Request, Session>,
) -> Result<redact_event::v3::Response> {
    redact_as(call, None).await
}

async fn redact_as(
    call: Call<redact_event::v3::Request, Session>,
    txn_id: Option<&str>,
) -> Result<redact_event::v3::Response> {
    let request = call.request;
    let (room, target) = (&request.room_id, &request.event_id);
    let reason = request.reason.as_deref();
    if call.who.restriction == Restriction::Suspended {
        // His own words he may take back.
        let found = call.services.rooms.events_by_ids(std::slice::from_ref(target)).await?;
        if !found.iter().any(|found| found.sender == call.who.user) {
            return Err(suspended().into());
        }
    }
    let sent = call.services.rooms.redact(&call.who, room, target, reason, txn_id).await?;
    Ok(redact_event::v3::Response { event_id: sent.event_id })
}

async fn upgrade(
    call: Call<upgrade_room::v3::Request, Session>,
) -> Result<upgrade_room::v3::Response> {
    let request = call.request;
    let creators = &request.additional_creators;
    let services = &call.services;
    let replacement_room =
        services.upgrade(&call.who, &request.room_id, request.new_version, creators).await?;
    Ok(upgrade_room::v3::Response { replacement_room })
}

fn checked(txn_id: &str) -> Result<&str> {
    if txn_id.len() > TXN_ID_BYTES_MAX {
        let why = format!("a transaction id has at most {TXN_ID_BYTES_MAX} bytes");
        return Err(MatrixError::invalid_param(why).into());
    }
    Ok(txn_id)
}
