//! Membership: joining, knocking, inviting, leaving, moderating, forgetting.

use colonnade_model::{
    MatrixError,
    ruma::api::client::{
        knock::knock_room,
        membership::{
            ban_user, forget_room, invite_user, join_room_by_id, join_room_by_id_or_alias,
            joined_rooms, kick_user, leave_room, unban_user,
        },
    },
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;

use crate::{
    call::{Call, from_json},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add::<join_room_by_id::v3::Request, _>(join)
        .add::<join_room_by_id_or_alias::v3::Request, _>(join_by_name)
        .add::<knock_room::v3::Request, _>(knock)
        .add::<invite_user::v3::Request, _>(invite)
        .add::<leave_room::v3::Request, _>(leave)
        .add::<kick_user::v3::Request, _>(kick)
        .add::<ban_user::v3::Request, _>(ban)
        .add::<unban_user::v3::Request, _>(unban)
        .add::<forget_room::v3::Request, _>(forget)
        .add::<joined_rooms::v3::Request, _>(joined);
}

async fn join(
    call: Call<join_room_by_id::v3::Request, Session>,
) -> Result<join_room_by_id::v3::Response> {
    let request = call.request;
    let extra = from_json(&call.body)?;
    let room_id = call.services.join(&call.who, (&*request.room_id).into(), &[], extra).await?;
    Ok(join_room_by_id::v3::Response { room_id })
}

async fn join_by_name(
    call: Call<join_room_by_id_or_alias::v3::Request, Session>,
) -> Result<join_room_by_id_or_alias::v3::Response> {
    let request = call.request;
    let extra = from_json(&call.body)?;
    let room_id =
        call.services.join(&call.who, &request.room_id_or_alias, &request.via, extra).await?;
    Ok(join_room_by_id_or_alias::v3::Response { room_id })
}

async fn knock(call: Call<knock_room::v3::Request, Session>) -> Result<knock_room::v3::Response> {
    let request = call.request;
    let (name, reason) = (&request.room_id_or_alias, request.reason.as_deref());
    let room_id = call.services.membership.knock(&call.who, name, &request.via, reason).await?;
    Ok(knock_room::v3::Response { room_id })
}

async fn invite(
    call: Call<invite_user::v3::Request, Session>,
) -> Result<invite_user::v3::Response> {
    use invite_user::v3::InvitationRecipient;
    let request = call.request;
    match request.recipient {
        InvitationRecipient::UserId(invited) => {
            let (room, reason) = (&request.room_id, invited.reason.as_deref());
            call.services.membership.invite(&call.who, room, &invited.user_id, reason).await?;
            Ok(invite_user::v3::Response {})
        }
        InvitationRecipient::ThirdPartyId(_) => {
            let why = "this server cannot invite by e-mail address or telephone number";
            Err(MatrixError::threepid_denied(why).into())
        }
    }
}

async fn leave(call: Call<leave_room::v3::Request, Session>) -> Result<leave_room::v3::Response> {
    let request = call.request;
    let reason = request.reason.as_deref();
    call.services.membership.leave(&call.who, &request.room_id, reason).await?;
    Ok(leave_room::v3::Response {})
}

async fn kick(call: Call<kick_user::v3::Request, Session>) -> Result<kick_user::v3::Response> {
    let request = call.request;
    let (target, reason) = (&request.user_id, request.reason.as_deref());
    call.services.membership.kick(&call.who, &request.room_id, target, reason).await?;
    Ok(kick_user::v3::Response {})
}

async fn ban(call: Call<ban_user::v3::Request, Session>) -> Result<ban_user::v3::Response> {
    let request = call.request;
    let (target, reason) = (&request.user_id, request.reason.as_deref());
    call.services.membership.ban(&call.who, &request.room_id, target, reason).await?;
    Ok(ban_user::v3::Response {})
}

async fn unban(call: Call<unban_user::v3::Request, Session>) -> Result<unban_user::v3::Response> {
    let request = call.request;
    let (target, reason) = (&request.user_id, request.reason.as_deref());
    call.services.membership.unban(&call.who, &request.room_id, target, reason).await?;
    Ok(unban_user::v3::Response {})
}

async fn forget(
    call: Call<forget_room::v3::Request, Session>,
) -> Result<forget_room::v3::Response> {
    call.services.membership.forget(&call.who, &call.request.room_id).await?;
    Ok(forget_room::v3::Response {})
}

async fn joined(
    call: Call<joined_rooms::v3::Request, Session>,
) -> Result<joined_rooms::v3::Response> {
    let joined_rooms = call.services.rooms.joined_rooms(&call.who).await?;
    Ok(joined_rooms::v3::Response { joined_rooms })
}
