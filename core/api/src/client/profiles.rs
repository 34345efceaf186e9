//! Profiles with their fields, finding users by name, and the rooms shared with somebody.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedUserId, UInt, UserId,
        api::client::{
            membership::get_mutual_rooms,
            profile::{delete_profile_field, get_profile, get_profile_field},
            user_directory::search_users,
        },
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::{accounts::Session, bodies::Payer, limits::Class};
use http::{Method, Request};
use serde_json::{Map, Value, json};

use crate::{
    call::{self, Call, read_json},
    guests::require_field,
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// Where a field is set.
const SET_FIELD: [&str; 3] = [
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}/{field}",
    "/_matrix/client/r0/profile/{user_id}/{field}",
    "/_matrix/client/v3/profile/{user_id}/{field}",
];
/// Where several are set at once. matrix-js-sdk asks at the path of the specification as soon as a server has
/// 1.16, which took over the rest of the proposal.
const SET_FIELDS: [&str; 2] = [
    "/_matrix/client/unstable/uk.tcpip.msc4133/profile/{user_id}",
    "/_matrix/client/v3/profile/{user_id}",
];

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_profile::v3::Request, _>(get);
    // The endpoints of displayname and avatar_url are those of any field.
    table.add_json::<get_profile_field::v3::Request, _>(get_field);
    for path in SET_FIELD {
        table.add_raw(Method::PUT, path, set_field);
    }
    table.add::<delete_profile_field::v3::Request, _>(delete_field);
    table.add_json::<search_users::v3::Request, _>(search);
    table.add::<get_mutual_rooms::v1::Request, _>(mutual_rooms);
    table.add_at::<get_mutual_rooms::v1::Request, _>(
        "/_matrix/client/unstable/uk.half-shot.msc2666/user/mutual_rooms",
        mutual_rooms,
    );
    for path in SET_FIELDS {
        table.add_raw(Method::PATCH, path, set_fields);
    }
}

async fn get(call: Call<get_profile::v3::Request, ()>) -> Result<Value> {
    let (services, user_id) = (&call.services, &call.request.user_id);
    Ok(Value::Object(match services.rooms.is_local(user_id) {
        true => services.profiles.get(user_id).await?,
        false => services.federation.profile(user_id, None).await?,
    }))
}

async fn get_field(call: Call<get_profile_field::v3::Request, ()>) -> Result<Value> {
    let get_profile_field::v3::Request { user_id, field } = call.request;
    let value = match call.services.rooms.is_local(&user_id) {
        true => call.services.profiles.field(&user_id, field.as_str()).await?,
        false => {
            let unset = || MatrixError::not_found("this field of the profile is not set");
            let mut profile =
                call.services.federation.profile(&user_id, Some(field.as_str())).await?;
            profile.remove(field.as_str()).ok_or_else(unset)?
        }
    };
    Ok(json!({ field.as_str(): value }))
}

/// Reads who changes whose profile, and to what.
///
/// # Errors
/// `M_FORBIDDEN` when it is somebody else's; what is wrong with token, user id or body.
async fn change_of(
    services: &Services,
    request: Request<ByteBody>,
    user_id: &str,
) -> Result<(Session, OwnedUserId, Map<String, Value>)> {
    let (parts, body) = request.into_parts();
    let who = call::session(services, &parts).await?;
    let user_id = UserId::parse(user_id)
        .map_err(|error| MatrixError::invalid_param(format!("not a user id: {error}")))?;
    require_own(&who, &user_id)?;
    let body = read_json(services, Payer::User(who.user), body).await?;
    Ok((who, user_id, body))
}

/// Raw, because the library's type drops what it does not know and calls a wrong type a syntax error.
async fn set_field(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let [user_id, name] = &args[..] else {
        return Err(MatrixError::unrecognized("no such endpoint").into());
    };
    let (who, _, mut body) = change_of(&services, request, user_id).await?;
    require_field(&who, name)?;
    let given = body.remove(name);
    let given = given.ok_or_else(|| MatrixError::missing_param(format!("{name} is missing")))?;
    services.set_profile_fields(&who, vec![(name.clone(), Some(given))]).await?;
    Ok(reply::ok(&json!({})))
}

/// Sets several fields at once, all or none; `null` deletes one. Answers the profile as it is now.
///
/// Source: MSC4133 in its unstable form, `PATCH /profile/{userId}`.
async fn set_fields(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let user_id = args.first().map(String::as_str).unwrap_or_default();
    let (who, user_id, body) = change_of(&services, request, user_id).await?;
    let fields = body.into_iter().map(|(name, value)| (name, Some(value).filter(|v| !v.is_null())));
    services.set_profile_fields(&who, fields.collect()).await?;
    Ok(reply::ok(&Value::Object(services.profiles.get(&user_id).await?)))
}

async fn delete_field(
    call: Call<delete_profile_field::v3::Request, Session>,
) -> Result<delete_profile_field::v3::Response> {
    let delete_profile_field::v3::Request { user_id, field } = call.request;
    require_own(&call.who, &user_id)?;
    require_field(&call.who, field.as_str())?;
    let fields = vec![(field.as_str().to_owned(), None)];
    call.services.set_profile_fields(&call.who, fields).await?;
    Ok(delete_profile_field::v3::Response {})
}

/// Makes sure that a path names the caller himself.
pub(crate) fn require_own(session: &Session, user_id: &UserId) -> Result<(), MatrixError> {
    if session.user_id == user_id {
        return Ok(());
    }
    Err(MatrixError::forbidden("this belongs to another user"))
}

async fn search(call: Call<search_users::v3::Request, Session>) -> Result<Value> {
    let search_users::v3::Request { search_term, limit, .. } = call.request;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (found, limited) = call.services.profiles.search(&call.who, &search_term, limit).await?;
    let render = |found: colonnade_users::profiles::Found| {
        let mut user = json!({ "user_id": found.user_id });
        if let Some(name) = found.shown.displayname {
            user["display_name"] = json!(name);
        }
        if let Some(url) = found.shown.avatar_url {
            user["avatar_url"] = json!(url);
        }
        user
    };
    let results: Vec<Value> = found.into_iter().map(render).collect();
    Ok(json!({ "results": results, "limited": limited }))
}

async fn mutual_rooms(
    call: Call<get_mutual_rooms::v1::Request, Session>,
) -> Result<get_mutual_rooms::v1::Response> {
    call.services.limits.check(Class::Other, call.who.user)?;
    let get_mutual_rooms::v1::Request { user_id, from } = call.request;
    if user_id == call.who.user_id {
        return Err(MatrixError::invalid_param("these are your own rooms").into());
    }
    let from = from.unwrap_or_default();
    let (joined, total, next) =
        call.services.profiles.mutual_rooms(&call.who, &user_id, &from).await?;
    Ok(get_mutual_rooms::v1::Response {
        count: UInt::try_from(total).unwrap_or(UInt::MAX),
        joined,
        next_batch: next,
    })
}
