//! What other servers may know of users here.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::api::federation::{
        openid::get_openid_userinfo::v1 as get_openid_userinfo,
        query::get_profile_information::v1 as get_profile,
    },
};
use colonnade_rooms::{Error, Result};
use colonnade_services::Services;
use http::Request;
use serde_json::{Value, json};

use super::endpoint::{Origin, require_federation};
use crate::{
    call::{Call, query, stranger},
    reply::{self, Reply},
    request::{ByteBody, address_of},
    table::Table,
};

/// A request without a body.
const NO_BODY: usize = 0;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_signed::<get_profile::Request, _, _, _>(NO_BODY, profile);
    // Who has no token is told so, and not that a parameter is missing.
    table.add_raw_for::<get_openid_userinfo::Request, _, _>(openid);
}

async fn profile(call: Call<get_profile::Request, Origin>) -> Result<Value> {
    let get_profile::Request { user_id, field } = call.request;
    let (services, origin) = (call.services, call.who.server);
    if user_id.server_name() != services.context.server_name {
        tracing::debug!(%origin, %user_id, "a server asks for a user who is not one of ours");
        return Err(MatrixError::not_found("this user is not one of this server").into());
    }
    match field {
        None => Ok(Value::Object(services.profiles.get(&user_id).await?)),
        Some(field) => {
            let value = services.profiles.field(&user_id, field.as_str()).await?;
            Ok(json!({ field.as_str(): value }))
        }
    }
}

async fn openid(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    require_federation(&services)?;
    let (parts, _) = request.into_parts();
    let token = query(&parts, "access_token").filter(|token| !token.is_empty());
    let missing = || MatrixError::missing_token("access_token is the token that a user made");
    let found = match token {
        Some(token) => services.accounts.of_openid_token(&token).await,
        None => Err(missing().into()),
    };
    if matches!(&found, Err(Error::Client(_))) {
        stranger(&services, address_of(&parts.extensions))?;
    }
    Ok(reply::ok(&json!({ "sub": found? })))
}
