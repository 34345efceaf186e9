//! Invitations by a third-party id: another server whose user an address belongs to, and servers of addresses, which
//! sign nothing of their requests.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedRoomId, OwnedUserId,
        api::federation::thirdparty::{
            bind_callback::v1 as bind_callback, exchange_invite::v1 as exchange_invite,
        },
    },
};
use colonnade_rooms::Result;
use colonnade_services::{Services, federation::AddressInvite};
use http::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Origin, require_federation};
use crate::{
    call::{Call, collect, from_json, stranger},
    reply::{self, Reply},
    request::{ByteBody, address_of},
    table::Table,
};

/// A few invitations with their signatures.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_signed::<exchange_invite::Request, _, _, _>(BODY_BYTES_MAX, exchange)
        .add_raw_for::<bind_callback::Request, _, _>(bound);
    // As servers of addresses of before send it.
    table.add_raw(Method::POST, "/_matrix/federation/v1/3pid/onbind", bound);
}

async fn exchange(call: Call<exchange_invite::Request, Origin>) -> Result<Value> {
    #[derive(Deserialize)]
    struct Partial {
        #[serde(rename = "type")]
        kind: String,
        room_id: OwnedRoomId,
        sender: OwnedUserId,
        state_key: OwnedUserId,
        content: Value,
    }
    let Partial { kind, room_id, sender, state_key: target, content } = from_json(&call.body)?;
    let is_invite = kind == "m.room.member"
        && room_id == call.request.room_id
        && content["membership"] == json!("invite");
    let Some(third_party) = content["third_party_invite"].as_object().filter(|_| is_invite) else {
        return Err(MatrixError::invalid_param("not an invitation to this room").into());
    };
    let text = |key: &str| third_party.get(key).and_then(Value::as_str).unwrap_or_default();
    let display_name = text("display_name").to_owned();
    let signed = third_party.get("signed").cloned().unwrap_or_default();
    let invite = AddressInvite { room_id, sender, target, display_name, signed };
    call.services.federation.exchange(&call.who.server, &invite).await?;
    Ok(json!({}))
}

async fn bound(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Binding {
        mxid: OwnedUserId,
        #[serde(default)]
        invites: Vec<Invited>,
    }
    #[derive(Deserialize)]
    struct Invited {
        address: String,
        mxid: OwnedUserId,
        room_id: OwnedRoomId,
        sender: OwnedUserId,
        signed: Value,
    }
    require_federation(&services)?;
    let (parts, body) = request.into_parts();
    let payer = stranger(&services, address_of(&parts.extensions))?;
    let body = collect(&services, payer, body, BODY_BYTES_MAX).await?;
    let Binding { mxid, invites } = from_json(&body)?;
    let invites = invites.into_iter().map(|invited| AddressInvite {
        room_id: invited.room_id,
        sender: invited.sender,
        target: invited.mxid,
        display_name: invited.address,
        signed: invited.signed,
    });
    let invites: Vec<AddressInvite> = invites.collect();
    services.federation.bound(&mxid, &invites).await?;
    Ok(reply::ok(&json!({})))
}
